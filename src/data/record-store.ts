import { randomInt } from 'node:crypto'
import { sql } from 'kysely'
import type { Position } from '../lib/offset.ts'
import type { Row, Rows } from '../postgres/row.ts'
import { AfterCommitError, classifyFailure, sqlstateOf } from '../postgres/sqlstate.ts'
import type { Database } from '../postgres/tables.ts'
import { compareRecords } from './compare-records.ts'
import { CopyGate } from './copy-gate.ts'
import { copyRecords } from './copy-records.ts'
import { type Columns, insertRecords, SLOTS_PER_FLUSH, toColumns } from './insert-records.ts'
import { isAfter, NOTHING_SEEN, type Seen } from './seen.ts'

/** The result of one row. */
export type RowOutcome =
  | { status: 'created' | 'duplicate' | 'conflict'; position: Position }
  | { status: 'rejected'; sqlstate: string }

/** The result of a row that PostgreSQL rejected with this error. */
export const rejectedBy = (error: unknown): RowOutcome => ({ status: 'rejected', sqlstate: sqlstateOf(error) ?? '' })

/** Belongs to one flush, and stays the same when the flush is sent again. */
export interface FlushBase {
  /** The first `n` of the flush. No other flush has it, so a retry recognises the rows of this one by it. */
  first: number
  /**
   * Whether to compare before the INSERT. An INSERT checks constraints, a comparison does not: a retry that chose again could
   * reject a row that the first try had found stored.
   */
  compareFirst: boolean
}

/** Writes flushes. All methods throw what the driver throws, or an AfterCommitError if rows were already committed. */
export interface RecordStore {
  newBase(): FlushBase
  /** Commits all rows that are new. Returns one outcome per row, in order. If PostgreSQL rejects a row, the whole write fails. */
  write(rows: Rows, base: FlushBase): Promise<RowOutcome[]>
  /** Commits all rows, or none if one is a conflict or rejected. In that case only the outcomes of those rows are valid. */
  writeStrict(rows: Rows, base: FlushBase): Promise<RowOutcome[]>
  /** Resolves if the database is reachable. */
  ping(): Promise<void>
}

export function createRecordStore(db: Database): RecordStore {
  const gate = new CopyGate()
  // Whether most rows of the last write were duplicates. Then the next write is likely to have duplicates too, such as more of a
  // file that is sent again. Its rows are compared before the INSERT. This makes such a file about one and a half times as fast,
  // because an INSERT that conflicts has converted its values in vain.
  let repeating = false
  let seen = NOTHING_SEEN

  async function writeRows(rows: Rows, { first, compareFirst }: FlushBase): Promise<RowOutcome[]> {
    if (gate.opensFor(rows.length)) {
      const outcomes = await copy(db, rows, first, seen)
      if (outcomes !== undefined) {
        gate.copied(rows.length)
        return outcomes
      }
      gate.copyFailed()
    }
    const outcomes = await (compareFirst ? compare : write)(db, rows, toColumns(rows), first, seen)
    gate.inserted(
      rows.length,
      outcomes.every(({ status }) => status === 'created'),
    )
    return outcomes
  }

  return {
    newBase: () => ({ first: randomInt(2 ** 32) * SLOTS_PER_FLUSH, compareFirst: repeating }),
    write: async (rows, base) => {
      try {
        const outcomes = await writeRows(rows, base)
        seen = furthest(seen, outcomes)
        repeating = outcomes.filter(({ status }) => status === 'duplicate').length * 2 > rows.length
        return outcomes
      } catch (error) {
        gate.failed()
        throw error
      }
    },
    writeStrict: async (rows, { first }) => {
      const outcomes = await writeStrict(db, [...rows], first, seen)
      seen = furthest(seen, outcomes)
      return outcomes
    },
    ping: async () => void (await sql`SELECT 1`.execute(db)),
  }
}

/** @returns undefined if the COPY failed because a row is already stored or is rejected; an INSERT finds out which row it is */
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
    // Created by this flush: the record has its base. This try wrote it, or an earlier one whose response was lost. The first
    // row with the identity created it. (If the request of that row has left the flush since then, the next equal row counts as
    // the creator.)
    const createdHere = same && position.n >= base && position.n < base + SLOTS_PER_FLUSH && !creators.has(n)
    if (createdHere) creators.add(n)
    outcomes[index] = { status: createdHere ? 'created' : same ? 'duplicate' : 'conflict', position }
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
  // A strict write with such a row was rolled back.
  if (outcomes.some(({ status }) => status === 'rejected' || status === 'conflict')) return seen
  return outcomes.reduce(
    (last, outcome) => (outcome.status === 'created' && isAfter(outcome.position, last) ? outcome.position : last),
    seen,
  )
}

/** Thrown to roll back a strict write. Carries the outcomes out of the transaction. */
class RolledBack extends Error {
  readonly outcomes: RowOutcome[]
  constructor(outcomes: RowOutcome[]) {
    super('a strict write was rolled back')
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
    const outcomes = await findRejected(db, rows, base, seen)
    if (outcomes.some(({ status }) => status === 'rejected' || status === 'conflict')) return outcomes
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
  const createdEarlier = (outcome: RowOutcome) => outcome.status === 'created' && outcome.position.xid !== rows[0]?.xid
  const earlier = outcomes.find(createdEarlier)
  if (earlier?.status !== 'created') return outcomes
  const { position } = earlier
  return outcomes.map((outcome, slot) =>
    createdEarlier(outcome) || outcome.status === 'duplicate'
      ? outcome
      : { status: 'created', position: { ...position, n: base + slot } },
  )
}

/** Tries each row after a savepoint to find the rows that PostgreSQL rejects. Then rolls everything back. */
async function findRejected(db: Database, rows: readonly Row[], base: number, seen: Seen): Promise<RowOutcome[]> {
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
        outcomes.push(rejectedBy(error))
      }
    }
    return outcomes
  } finally {
    await trx.rollback().execute()
  }
}
