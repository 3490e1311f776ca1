import { randomInt } from 'node:crypto'
import { sql } from 'kysely'
import type { Position } from '../lib/cursor.ts'
import { compareRecords } from './compare-records.ts'
import { copyRecords } from './copy-records.ts'
import { type Columns, insertRecords, SLOTS_PER_FLUSH, toColumns } from './insert-records.ts'
import type { Row, Rows } from './row.ts'
import type { Database } from './schema.ts'
import { isAfter, NOTHING_SEEN, type Seen } from './seen.ts'
import { AfterCommitError, classifyFailure, sqlstateOf } from './sqlstate.ts'

/** The result of one row. */
export type RowOutcome =
  | { status: 'created' | 'duplicate' | 'conflict'; position: Position }
  | { status: 'refused'; sqlstate: string }

/** Writes flushes. All methods throw what the driver throws, or an AfterCommitError if rows were already committed. */
export interface RecordStore {
  /** A number that no other flush has. It marks the rows of a flush, so that a retry recognises them. */
  newBase(): number
  /** Commits all rows that are new. Returns one outcome per row, in order. If PostgreSQL refuses a row, the whole write fails. */
  write(rows: Rows, base: number): Promise<RowOutcome[]>
  /** Commits all rows, or none if one is a conflict or refused. In that case only these outcomes are valid. */
  writeStrict(rows: Rows, base: number): Promise<RowOutcome[]>
  /** Resolves if the database is reachable. */
  ping(): Promise<void>
}

export function createRecordStore(db: Database): RecordStore {
  // Whether most rows of the last write were duplicates. Then the next write is likely to be more of them, such as a file that is
  // sent again. It is looked up first: an insert that conflicts has checked and converted its values for nothing.
  let repeating = false
  // How many rows in a row were new.
  let fresh = 0
  // How many new rows in a row it takes before the next ones are copied.
  let enough = FRESH_ROWS
  let seen = NOTHING_SEEN
  return {
    // An odd multiple of SLOTS_PER_FLUSH means: look up first. The base carries the choice, so that a retry makes the same one.
    newBase: () => (randomInt(2 ** 31) * 2 + (repeating ? 1 : 0)) * SLOTS_PER_FLUSH,
    write: async (rows, base) => {
      const copies = fresh >= enough && rows.length >= COPY_ROWS
      const insert = (base / SLOTS_PER_FLUSH) % 2 === 1 ? compare : write
      try {
        const copied = copies ? await copy(db, rows, base, seen) : undefined
        if (copies) enough = copied === undefined ? enough * 2 : Math.max(FRESH_ROWS, enough - rows.length)
        const outcomes = copied ?? (await insert(db, rows, toColumns(rows), base, seen))
        seen = furthest(seen, outcomes)
        repeating = outcomes.filter(({ status }) => status === 'duplicate').length * 2 > rows.length
        fresh = outcomes.every(({ status }) => status === 'created') ? fresh + rows.length : 0
        return outcomes
      } catch (error) {
        fresh = 0
        throw error
      }
    },
    writeStrict: async (rows, base) => {
      const outcomes = await writeStrict(db, [...rows], base, seen)
      seen = furthest(seen, outcomes)
      return outcomes
    },
    ping: async () => void (await sql`SELECT 1`.execute(db)),
  }
}

/**
 * The least number of new rows in a row before a COPY. A COPY that fails leaves dead rows, and an error in PostgreSQL's log. Each
 * failure therefore doubles the number, and each row that is copied lowers it again.
 */
const FRESH_ROWS = 10_000
/** For fewer rows, starting a COPY costs more than it saves. */
const COPY_ROWS = 16

/** @returns undefined if the COPY failed because a row is already stored or is refused; an INSERT finds out which row it is */
async function copy(db: Database, rows: Rows, base: number, seen: Seen): Promise<RowOutcome[] | undefined> {
  try {
    return created(rows, base, await copyRecords(db, rows, base, seen))
  } catch (error) {
    if (classifyFailure(error).kind === 'row') return undefined
    throw error
  }
}

function created({ length }: Rows, base: number, { epoch, xid }: { epoch: number; xid: string }): RowOutcome[] {
  return Array.from({ length }, (_, slot) => ({ status: 'created', position: { epoch, xid, n: base + slot } }))
}

/** Inserts the new rows. If some rows were not new, compares. */
async function write(db: Database, rows: Rows, columns: Columns, base: number, seen: Seen): Promise<RowOutcome[]> {
  const inserted = await insertRecords(db, columns, base, seen)
  if (inserted.created === rows.length) return created(rows, base, inserted)
  try {
    return await compare(db, rows, columns, base, seen)
  } catch (error) {
    // Outside of a transaction, the new rows are already committed.
    throw inserted.created === 0 || db.isTransaction ? error : new AfterCommitError(error)
  }
}

/** Compares the rows with the records stored under the same identities, and inserts the rows whose identity is free. */
async function compare(db: Database, rows: Rows, columns: Columns, base: number, seen: Seen): Promise<RowOutcome[]> {
  const outcomes = new Array<RowOutcome>(rows.length)
  const creators = new Set<string>()
  for (const { index, epoch, xid, n, same } of await compareRecords(db, columns)) {
    const position = { epoch, xid, n: Number(n) }
    // The record has this base: this try wrote it, or an earlier one whose response was lost. The first row with the identity
    // created it. (If the request of that row has left the flush since then, the next equal row counts as the creator.)
    const ours = same && position.n >= base && position.n < base + SLOTS_PER_FLUSH && !creators.has(n)
    if (ours) creators.add(n)
    outcomes[index] = { status: ours ? 'created' : same ? 'duplicate' : 'conflict', position }
  }
  // Not inserted yet. Or, after an insert, retention has deleted the record in the meantime, and its identity is free again.
  const free = [...outcomes.keys()].filter((index) => outcomes[index] === undefined)
  if (free.length > 0) {
    const all = [...rows]
    const rest = free.map((index) => all[index] as Row)
    // In further slots, because this may be the same transaction.
    for (const [at, outcome] of (await write(db, rest, toColumns(rest), base + rows.length, seen)).entries()) {
      outcomes[free[at] as number] = outcome
    }
  }
  return outcomes
}

/** The later of `seen` and the positions that were committed now. */
function furthest(seen: Seen, outcomes: RowOutcome[]): Seen {
  // A strict write that was refused committed nothing.
  if (outcomes.some(({ status }) => status === 'refused' || status === 'conflict')) return seen
  return outcomes.reduce(
    (last, outcome) => (outcome.status === 'created' && isAfter(outcome.position, last) ? outcome.position : last),
    seen,
  )
}

/** Thrown to roll back a strict write. Carries the outcomes out of the transaction. */
class RolledBack extends Error {
  readonly outcomes: RowOutcome[]
  constructor(outcomes: RowOutcome[]) {
    super('a strict write was refused')
    this.outcomes = outcomes
  }
}

async function writeStrict(db: Database, rows: readonly Row[], base: number, seen: Seen): Promise<RowOutcome[]> {
  try {
    return await db.transaction().execute(async (trx) => {
      const outcomes = await write(trx, rows, toColumns(rows), base, seen)
      if (outcomes.some(({ status }) => status === 'conflict'))
        throw new RolledBack(await asCommittedBefore(trx, outcomes, base))
      return outcomes
    })
  } catch (error) {
    if (error instanceof RolledBack) return error.outcomes
    if (classifyFailure(error).kind !== 'row') throw error
    const outcomes = await findRefused(db, rows, base, seen)
    if (outcomes.some(({ status }) => status === 'refused' || status === 'conflict')) return outcomes
    // Everything was rolled back, and no row explains why. It must not look like a success.
    throw error
  }
}

/**
 * The rows of a strict write are stored together. If one row is stored by an earlier try whose response was lost, that try was
 * committed as a whole. Retention has then deleted the rows that are missing now, and the conflicting records were stored later.
 */
async function asCommittedBefore(trx: Database, outcomes: RowOutcome[], base: number): Promise<RowOutcome[]> {
  const { rows } = await sql<{ xid: string | null }>`SELECT pg_current_xact_id_if_assigned()::text AS xid`.execute(trx)
  const isOurs = (outcome: RowOutcome) => outcome.status === 'created' && outcome.position.xid !== rows[0]?.xid
  const earlier = outcomes.find(isOurs)
  if (earlier?.status !== 'created') return outcomes
  const { position } = earlier
  return outcomes.map((outcome, slot) =>
    isOurs(outcome) || outcome.status === 'duplicate'
      ? outcome
      : { status: 'created', position: { ...position, n: base + slot } },
  )
}

/** Tries each row behind a savepoint to find the rows that PostgreSQL refuses. Then rolls everything back. */
async function findRefused(db: Database, rows: readonly Row[], base: number, seen: Seen): Promise<RowOutcome[]> {
  const outcomes: RowOutcome[] = []
  const trx = await db.startTransaction().execute()
  try {
    // Checks deferred constraints at each row and not only at the commit.
    await sql`SET CONSTRAINTS ALL IMMEDIATE`.execute(trx)
    for (const [slot, row] of rows.entries()) {
      const attempt = await trx.savepoint('row').execute()
      try {
        outcomes.push(...(await write(attempt, [row], toColumns([row]), base + slot, seen)))
        await attempt.releaseSavepoint('row').execute()
      } catch (error) {
        if (classifyFailure(error).kind !== 'row') throw error
        await attempt.rollbackToSavepoint('row').execute()
        outcomes.push({ status: 'refused', sqlstate: sqlstateOf(error) as string })
      }
    }
    return outcomes
  } finally {
    await trx.rollback().execute()
  }
}
