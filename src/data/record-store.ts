import { randomInt } from 'node:crypto'
import { sql } from 'kysely'
import type { Position } from '../lib/cursor.ts'
import { compareRecords } from './compare-records.ts'
import { copyRecords } from './copy-records.ts'
import { type Columns, insertRecords, PLACES, toColumns } from './insert-records.ts'
import type { Row, Rows } from './row.ts'
import type { Database } from './schema.ts'
import { isAfter, NOTHING_SEEN, type Seen } from './seen.ts'
import { AfterCommitError, classifyFailure, sqlstateOf } from './sqlstate.ts'

/** What became of one row. */
export type RowOutcome =
  | { status: 'created' | 'duplicate' | 'conflict'; position: Position }
  | { status: 'refused'; sqlstate: string }

/** Where flushes go. All throw what the driver throws; an AfterCommitError where rows were committed before that. */
export interface RecordStore {
  /** A number that no other flush has; says which rows are a flush's own when it must be sent again. */
  newBase(): number
  /** Commits every row that is new: one outcome a row, in order. Fails as a whole when a row is at fault. */
  write(rows: Rows, base: number): Promise<RowOutcome[]>
  /** Commits all rows, or none when one is a conflict or refused; the outcomes say which and are otherwise void. */
  writeStrict(rows: Rows, base: number): Promise<RowOutcome[]>
  /** Resolves when the database can be reached. */
  ping(): Promise<void>
}

export function createRecordStore(db: Database): RecordStore {
  // Were most rows of the last write there already? Then the next is likely to be more of the same, such as a file that
  // is sent again, and is looked up first: an insert that conflicts has checked and converted its values for nothing.
  let repeating = false
  // So many rows were new since one was not, or was refused, or could not be written.
  let fresh = 0
  // So many let hope that the next are new, too.
  let enough = FRESH_ROWS
  let seen = NOTHING_SEEN
  return {
    // An odd number of PLACES: look first. The base keeps the choice, so that a flush that is sent again goes the same way.
    newBase: () => (randomInt(2 ** 31) * 2 + (repeating ? 1 : 0)) * PLACES,
    write: async (rows, base) => {
      const copies = fresh >= enough && rows.length >= COPY_ROWS
      const insert = (base / PLACES) % 2 === 1 ? compare : write
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
 * At least so many new rows, one after the other, before a COPY; twice as many after each that was in vain, which leaves dead
 * rows and an error in PostgreSQL's log; and fewer again with the rows that were copied.
 */
const FRESH_ROWS = 10_000
/** For fewer, what a COPY takes to begin outweighs what it saves. */
const COPY_ROWS = 16

/** @returns nothing when it was in vain: a row is stored already, or at fault; an INSERT finds out which */
async function copy(db: Database, rows: Rows, base: number, seen: Seen): Promise<RowOutcome[] | undefined> {
  try {
    return created(rows, base, await copyRecords(db, rows, base, seen))
  } catch (error) {
    if (classifyFailure(error).kind === 'row') return undefined
    throw error
  }
}

function created({ length }: Rows, base: number, { epoch, xid }: { epoch: number; xid: string }): RowOutcome[] {
  return Array.from({ length }, (_, place) => ({ status: 'created', position: { epoch, xid, n: base + place } }))
}

/** Inserts, and compares where that was not all. */
async function write(db: Database, rows: Rows, columns: Columns, base: number, seen: Seen): Promise<RowOutcome[]> {
  const inserted = await insertRecords(db, columns, base, seen)
  if (inserted.created === rows.length) return created(rows, base, inserted)
  try {
    return await compare(db, rows, columns, base, seen)
  } catch (error) {
    // Outside of a transaction the rows that were new are committed by now.
    throw inserted.created === 0 || db.isTransaction ? error : new AfterCommitError(error)
  }
}

/** Compares with what is stored under the same identities, and inserts those that nothing is stored under. */
async function compare(db: Database, rows: Rows, columns: Columns, base: number, seen: Seen): Promise<RowOutcome[]> {
  const outcomes = new Array<RowOutcome>(rows.length)
  const creators = new Set<string>()
  for (const { index, epoch, xid, n, same } of await compareRecords(db, columns)) {
    const position = { epoch, xid, n: Number(n) }
    // Written under this base: by this try, or by an earlier one whose answer was lost. The first row with the identity
    // is the one that made it; or one like it, when that one's request has left the flush meanwhile.
    const ours = same && position.n >= base && position.n < base + PLACES && !creators.has(n)
    if (ours) creators.add(n)
    outcomes[index] = { status: ours ? 'created' : same ? 'duplicate' : 'conflict', position }
  }
  // Not inserted yet; or, after an insert, retention has removed a row meanwhile and its identity is free again.
  const free = [...outcomes.keys()].filter((index) => outcomes[index] === undefined)
  if (free.length > 0) {
    const all = [...rows]
    const rest = free.map((index) => all[index] as Row)
    // At further places: this may still be the same transaction.
    for (const [at, outcome] of (await write(db, rest, toColumns(rest), base + rows.length, seen)).entries()) {
      outcomes[free[at] as number] = outcome
    }
  }
  return outcomes
}

/** The furthest of what was seen before and of what was committed now. */
function furthest(seen: Seen, outcomes: RowOutcome[]): Seen {
  // Of a strict write that was refused nothing is.
  if (outcomes.some(({ status }) => status === 'refused' || status === 'conflict')) return seen
  return outcomes.reduce(
    (last, outcome) => (outcome.status === 'created' && isAfter(outcome.position, last) ? outcome.position : last),
    seen,
  )
}

/** Thrown to undo a strict write; carries the outcomes out of the transaction. */
class Undone extends Error {
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
        throw new Undone(await asCommittedBefore(trx, outcomes, base))
      return outcomes
    })
  } catch (error) {
    if (error instanceof Undone) return error.outcomes
    if (classifyFailure(error).kind !== 'row') throw error
    const outcomes = await findRefused(db, rows, base, seen)
    if (outcomes.some(({ status }) => status === 'refused' || status === 'conflict')) return outcomes
    // All was undone, and no row explains it: it must not look like a success.
    throw error
  }
}

/**
 * The rows of a strict write are stored together: when one is there from an earlier try whose answer was lost, that try was
 * committed. What is not there any more was removed by retention, and what conflicts now has taken its place since.
 */
async function asCommittedBefore(trx: Database, outcomes: RowOutcome[], base: number): Promise<RowOutcome[]> {
  const { rows } = await sql<{ xid: string | null }>`SELECT pg_current_xact_id_if_assigned()::text AS xid`.execute(trx)
  const isOurs = (outcome: RowOutcome) => outcome.status === 'created' && outcome.position.xid !== rows[0]?.xid
  const earlier = outcomes.find(isOurs)
  if (earlier?.status !== 'created') return outcomes
  const { position } = earlier
  return outcomes.map((outcome, place) =>
    isOurs(outcome) || outcome.status === 'duplicate'
      ? outcome
      : { status: 'created', position: { ...position, n: base + place } },
  )
}

/** Tries each row behind a savepoint to learn which ones PostgreSQL refuses, and undoes it all. */
async function findRefused(db: Database, rows: readonly Row[], base: number, seen: Seen): Promise<RowOutcome[]> {
  const outcomes: RowOutcome[] = []
  const trx = await db.startTransaction().execute()
  try {
    // What would be refused at the commit is refused at its row.
    await sql`SET CONSTRAINTS ALL IMMEDIATE`.execute(trx)
    for (const [place, row] of rows.entries()) {
      const attempt = await trx.savepoint('row').execute()
      try {
        outcomes.push(...(await write(attempt, [row], toColumns([row]), base + place, seen)))
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
