// A writer with a store in memory, for the tests of src/writer.

import type { Test } from 'tap'
import type { RowOutcome } from '../../src/data/record-store.ts'
import type { Row } from '../../src/postgres/row.ts'
import { Problem } from '../../src/problems.ts'
import { Writer, type WriterOptions } from '../../src/writer/writer.ts'
import { turn } from './clock.ts'
import { createMemoryStore, GUILTY, type MemoryStore, type StoreCall, sqlError } from './memory-store.ts'
import { makeRow } from './rows.ts'

export const HOLD_MS = 20_000
/** How long after its hold window a request waits for the try that is running. */
export const GRACE_MS = 2_000
/** How often the writer checks deadlines, and pings an unavailable database while no request waits. */
export const CHECK_MS = 500
/** Longer than the longest pause between two tries. */
export const LONGER_THAN_PAUSE_MS = 1_000

/** Too many connections: the database is unavailable, and nothing was written. */
export const UNAVAILABLE = sqlError('53300')
/** PostgreSQL rejects a row. */
export const ROW_ERROR = sqlError('22P02')
export const DISK_FULL = sqlError('53100')
/** The reason with which the tests withdraw a request. */
export const REVOKED = new Problem('unauthorized', 'The API key was revoked.', {
  headers: { 'www-authenticate': 'Bearer' },
})
/** The session ended, perhaps after the commit. */
export const SESSION_ENDED = sqlError('57P01')

export interface Result {
  error: unknown
  outcomes: RowOutcome[]
}

/**
 * A writer on a store in memory. The test decides how each call to the store ends. At the end of `t`, each request must have been
 * answered exactly once.
 */
export function setUp(t: Test, { ping, ...options }: Partial<WriterOptions> & { ping?: () => Promise<void> } = {}) {
  const store = createMemoryStore(undefined, ping)
  const outages: ('begun' | 'ended')[] = []
  const writer = new Writer(store, {
    maxRows: 1000,
    maxBytes: 1e6,
    concurrency: 2,
    holdMs: HOLD_MS,
    onOutage: (error) => outages.push(error === undefined ? 'ended' : 'begun'),
    ...options,
  })
  const timesAnswered: number[] = []
  t.teardown(async () => {
    await writer.close()
    await turn()
    if (timesAnswered.some((times) => times !== 1)) throw new Error(`not answered exactly once: ${timesAnswered}`)
  })

  const submit = (rows: (string | Row)[], { key = 'a key', strict = false, bytes = 1 } = {}) => {
    const number = timesAnswered.push(0) - 1
    const { promise: result, resolve } = Promise.withResolvers<Result>()
    const withdraw = writer.submit({ key, rows: rows.map(toRow), bytes, strict }, (error, outcomes) => {
      timesAnswered[number] = (timesAnswered[number] as number) + 1
      resolve({ error, outcomes })
    })
    return { result, withdraw: () => withdraw(REVOKED) }
  }
  const send = (...request: Parameters<typeof submit>): Promise<Result> => submit(...request).result
  const countAnswered = () => timesAnswered.filter((times) => times > 0).length
  return { store, writer, submit, send, outages, countAnswered }
}

/** From now on every call commits as soon as it is made. */
export function commitAll(store: MemoryStore): void {
  void endAll(store, (call) => call.commit())
}

/** From now on every call fails as soon as it is made. */
export function failAll(store: MemoryStore, error: unknown): void {
  void endAll(store, (call) => call.fail(error))
}

async function endAll(store: MemoryStore, end: (call: StoreCall) => void): Promise<never> {
  for (;;) end(await store.next())
}

export function toRow(row: string | Row): Row {
  return typeof row === 'string' ? makeRow({ id: row }) : row
}

/** A row at fault: the store in memory refuses its type. */
export function guiltyRow(id: string): Row {
  return makeRow({ id, type: GUILTY })
}

export function idsOf({ rows }: { rows: readonly Row[] }): string[] {
  return rows.map(({ id }) => id)
}

export function positions({ outcomes }: Result) {
  return outcomes.map((outcome) => 'position' in outcome && outcome.position)
}

/** The statuses of a request that was answered with outcomes. */
export function statuses({ error, outcomes }: Result): string[] {
  if (error !== undefined) throw error
  return outcomes.map(({ status }) => status)
}

export function problem({ error }: Result): Problem {
  if (!(error instanceof Problem)) throw new Error('a Problem was expected', { cause: error })
  return error
}
