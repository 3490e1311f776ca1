import type { FlushBase, RecordStore, RowOutcome } from '../../src/data/record-store.ts'
import type { Row, Rows } from '../../src/postgres/row.ts'

/** A call of the writer to the store. It stays open until the test ends it. */
export interface StoreCall {
  rows: readonly Row[]
  base: FlushBase
  strict: boolean
  /** Commits and returns the outcomes. If a row is guilty, the call fails instead, as with PostgreSQL. */
  commit(): void
  /** Commits, and then fails as if the response were lost. */
  commitAndFail(error: unknown): void
  /** Fails. Nothing is written. */
  fail(error: unknown): void
}

export interface MemoryStore extends RecordStore {
  /** All calls so far. */
  calls: StoreCall[]
  /** Returns the next call that the test has not taken yet, and waits for it. */
  next(): Promise<StoreCall>
  /** The stored records, by identity. */
  stored: Map<string, { row: Row; base: FlushBase; position: { epoch: number; xid: string; n: number } }>
}

/** An error like those that the driver throws for errors of the server. */
export const sqlError = (code: string, severity = 'ERROR') =>
  Object.assign(new Error(`SQLSTATE ${code}`), { code, severity })

export const identity = ({ source, id }: Row) => `${source} ${id}`

export const contentOf = ({ type, data }: Row) => `${type} ${data}`

/** Rows of this type are refused, with 23514 (check_violation). */
export const GUILTY = 'guilty'

/**
 * A RecordStore in memory that behaves like data/record-store.ts, for failures that PostgreSQL does not produce on demand.
 * @param onCall ends each call; without it, the test takes the calls one by one with `next()`
 * @param ping rejects if the database is to seem unreachable
 */
export function createMemoryStore(
  onCall?: (call: StoreCall) => void,
  ping: () => Promise<void> = async () => {},
): MemoryStore {
  const calls: StoreCall[] = []
  const untaken: StoreCall[] = []
  const takers: ((call: StoreCall) => void)[] = []
  const stored: MemoryStore['stored'] = new Map()
  let bases = 0
  let transactions = 0

  function open(sent: Rows, base: FlushBase, strict: boolean): Promise<RowOutcome[]> {
    const rows = [...sent]
    const { promise, resolve, reject } = Promise.withResolvers<RowOutcome[]>()
    const attempt = (conclude: (outcomes: RowOutcome[]) => void) => {
      try {
        conclude(write(rows, base, strict))
      } catch (error) {
        reject(error)
      }
    }
    const call: StoreCall = {
      rows,
      base,
      strict,
      commit: () => attempt(resolve),
      commitAndFail: (error) => attempt(() => reject(error)),
      fail: reject,
    }
    calls.push(call)
    if (onCall !== undefined) onCall(call)
    else if (takers.length > 0) takers.shift()?.(call)
    else untaken.push(call)
    return promise
  }

  function write(rows: readonly Row[], base: FlushBase, strict: boolean): RowOutcome[] {
    const guilty = rows.some(({ type }) => type === GUILTY)
    if (guilty && !strict) throw sqlError('23514')
    const before = new Map(stored)
    const xid = String(++transactions)
    const creators = new Set<string>()
    const outcomes = rows.map((row, slot): RowOutcome => {
      if (row.type === GUILTY) return { status: 'rejected', sqlstate: '23514' }
      const key = identity(row)
      const found = stored.get(key) ?? { row, base, position: { epoch: 1, xid, n: base.first + slot } }
      stored.set(key, found)
      const same = contentOf(found.row) === contentOf(row)
      const createdHere = same && found.base === base && !creators.has(key)
      if (createdHere) creators.add(key)
      return { status: createdHere ? 'created' : same ? 'duplicate' : 'conflict', position: found.position }
    })
    if (strict && (guilty || outcomes.some(({ status }) => status === 'conflict'))) {
      stored.clear()
      for (const [key, value] of before) stored.set(key, value)
    }
    return outcomes
  }

  return {
    calls,
    stored,
    next: () => {
      const call = untaken.shift()
      return call === undefined ? new Promise((resolve) => takers.push(resolve)) : Promise.resolve(call)
    },
    newBase: () => ({ first: ++bases * 2 ** 20, compareFirst: false }),
    write: (rows, base) => open(rows, base, false),
    writeStrict: (rows, base) => open(rows, base, true),
    ping: () => ping(),
  }
}
