import { setImmediate as nextIteration } from 'node:timers/promises'
import fc from 'fast-check'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { createRecordStore, type RecordStore, type RowOutcome } from '../../src/data/record-store.ts'
import { connect } from '../../src/postgres/connect.ts'
import type { Row } from '../../src/postgres/row.ts'
import { Problem } from '../../src/problems.ts'
import { Writer } from '../../src/writer/writer.ts'
import { stopClock } from '../helpers/clock.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { contentOf, createMemoryStore, GUILTY, identity, sqlError } from '../helpers/memory-store.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { makeRow } from '../helpers/rows.ts'

// Sends random requests while the store fails at random. Afterwards, every result must agree with what is stored. The model of
// the store is small: for each identity, the stored row and its position.

/** How a call of the store ends. */
type Ending = 'commit' | 'fail before commit' | 'fail after commit'

interface Scenario {
  requests: Sent[]
  /** How the calls of the store end, in order. All further calls commit. */
  endings: { ending: Ending; turns: number }[]
  maxRows: number
  concurrency: number
}

interface Sent {
  key: string
  rows: { id: string; type: string }[]
  strict: boolean
  /** Iterations of the event loop before the next request arrives. */
  turns: number
}

interface Received {
  rows: Row[]
  strict: boolean
  error: unknown
  outcomes: RowOutcome[]
  timesAnswered: number
}

const scenario: fc.Arbitrary<Scenario> = fc.record({
  requests: fc.array(
    fc.record({
      key: fc.constantFrom('key 1', 'key 2', 'key 3'),
      rows: fc.array(
        fc.record({
          id: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'),
          type: fc.oneof(
            { weight: 8, arbitrary: fc.constantFrom('x', 'y') },
            { weight: 1, arbitrary: fc.constant(GUILTY) },
          ),
        }),
        { minLength: 1, maxLength: 8 },
      ),
      strict: fc.oneof({ weight: 4, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
      turns: fc.nat(3),
    }),
    { minLength: 1, maxLength: 12 },
  ),
  endings: fc.array(
    fc.record({
      ending: fc.constantFrom<Ending>('commit', 'commit', 'fail before commit', 'fail after commit'),
      turns: fc.nat(3),
    }),
    { maxLength: 20 },
  ),
  maxRows: fc.integer({ min: 1, max: 20 }),
  concurrency: fc.integer({ min: 1, max: 3 }),
})

t.test('if failures end in time, every request gets outcomes that agree with what is stored', async (t) => {
  const clock = stopClock(t)
  await fc.assert(
    fc.asyncProperty(scenario, async (scenario) => {
      const store = createMemoryStore(endCalls(scenario))
      const results = await run(store, scenario, { holdMs: 1e9, passTime: () => clock.tick(100) })
      check(results, (row) => store.stored.get(identity(row)))
      for (const { error } of results)
        if (error !== undefined) throw new Error('a request failed although it had enough time', { cause: error })
    }),
    { numRuns: 500 },
  )
})

t.test('if some requests run out of time, every result agrees with what is stored', async (t) => {
  const clock = stopClock(t)
  await fc.assert(
    fc.asyncProperty(scenario, fc.integer({ min: 0, max: 300 }), async (scenario, holdMs) => {
      const store = createMemoryStore(endCalls(scenario))
      check(await run(store, scenario, { holdMs, passTime: () => clock.tick(40) }), (row) =>
        store.stored.get(identity(row)),
      )
    }),
    { numRuns: 500 },
  )
})

t.test('with PostgreSQL, every request gets outcomes that agree with what is stored', async (t) => {
  const { store, reset, read } = await openStore(t)
  await fc.assert(
    fc.asyncProperty(scenario, async (scenario) => {
      await reset()
      const results = await run(withFailures(store, scenario), scenario, { holdMs: 60_000, passTime: nextIteration })
      const stored = await read()
      check(results, (row) => stored.get(identity(row)))
      for (const { error } of results)
        if (error !== undefined) throw new Error('a request failed although it had enough time', { cause: error })
    }),
    { numRuns: 40, endOnFailure: true },
  )
})

// — running a scenario —

/** Sends the requests and lets time pass until the writer is closed. */
async function run(
  store: RecordStore,
  { requests, maxRows, concurrency }: Scenario,
  { holdMs, passTime }: { holdMs: number; passTime: () => Promise<void> },
): Promise<Received[]> {
  const writer = new Writer(store, { maxRows, maxBytes: 1e6, concurrency, holdMs })
  let unanswered = requests.length
  const results: Received[] = []
  for (const { key, rows, strict, turns } of requests) {
    const result: Received = {
      rows: rows.map(({ id, type }) => makeRow({ id, type })),
      strict,
      error: undefined,
      outcomes: [],
      timesAnswered: 0,
    }
    results.push(result)
    writer.submit({ key, rows: result.rows, bytes: 1, strict }, (error, outcomes) => {
      Object.assign(result, { error, outcomes, timesAnswered: result.timesAnswered + 1 })
      unanswered--
    })
    for (let turn = 0; turn < turns; turn++) await passTime()
  }
  while (unanswered > 0) await passTime()
  await writer.close()
  return results
}

function endCalls({ endings }: Scenario) {
  let next = 0
  return async (call: { commit(): void; commitAndFail(error: unknown): void; fail(error: unknown): void }) => {
    const { ending, turns } = endings[next++] ?? { ending: 'commit', turns: 0 }
    for (let turn = 0; turn < turns; turn++) await nextIteration()
    if (ending === 'commit') call.commit()
    else if (ending === 'fail after commit') call.commitAndFail(sqlError('08006'))
    else call.fail(sqlError('53300'))
  }
}

/** The real store behind a connection that breaks. */
function withFailures(store: RecordStore, { endings }: Scenario): RecordStore {
  let next = 0
  const endAsPlanned = async (write: () => Promise<RowOutcome[]>) => {
    const { ending } = endings[next++] ?? { ending: 'commit' }
    if (ending === 'fail before commit') throw sqlError('53300')
    const outcomes = await write()
    if (ending === 'fail after commit') throw sqlError('08006')
    return outcomes
  }
  return {
    newBase: () => store.newBase(),
    ping: () => store.ping(),
    write: (rows, base) => endAsPlanned(() => store.write(rows, base)),
    writeStrict: (rows, base) => endAsPlanned(() => store.writeStrict(rows, base)),
  }
}

// — the checks —

type Position = { epoch: number; xid: string; n: number }

function check(results: Received[], storedAs: (row: Row) => { row: Row; position: Position } | undefined): void {
  const createdBy = new Map<string, number>()
  const mayHaveCreated = new Set<string>()
  for (const { rows, strict, error, outcomes, timesAnswered } of results) {
    expect(timesAnswered === 1, 'a request is answered exactly once')
    if (error !== undefined) {
      const codes = ['database_unavailable', 'overloaded']
      expect(error instanceof Problem && codes.includes(error.code), 'the only errors are an outage and a long queue')
      if ((error as Problem).outcome === 'unknown') for (const row of rows) mayHaveCreated.add(identity(row))
      continue
    }
    expect(outcomes.length === rows.length, 'one outcome per row')
    const rolledBack = strict && outcomes.some(({ status }) => status === 'conflict' || status === 'rejected')
    for (const [index, row] of rows.entries()) {
      const outcome = outcomes[index] as RowOutcome
      // If the identity of a row at fault is taken, the row may also be a conflict, depending on what is checked first.
      const isFailure = outcome.status === 'rejected' || outcome.status === 'conflict'
      expect(
        row.type === GUILTY ? isFailure : outcome.status !== 'rejected',
        'rows at fault fail, and no others are rejected',
      )
      if (outcome.status === 'rejected' || rolledBack) continue

      const stored = storedAs(row)
      if (stored === undefined) throw new Error(`${outcome.status}, but not stored: ${identity(row)}`)
      const same = contentOf(stored.row) === contentOf(row)
      expect(same === (outcome.status !== 'conflict'), `${outcome.status} agrees with the stored content`)
      expect(
        outcome.position.xid === stored.position.xid && outcome.position.n === stored.position.n,
        'the position is that of the stored record',
      )
      if (outcome.status === 'created') createdBy.set(identity(row), (createdBy.get(identity(row)) ?? 0) + 1)
    }
  }
  for (const id of new Set(results.flatMap(({ rows }) => rows.map(identity)))) {
    const created = createdBy.get(id) ?? 0
    expect(created <= 1, 'an identity is created at most once')
    const stored =
      storedAs(makeRow({ source: id.split(' ')[0] as string, id: id.split(' ')[1] as string })) !== undefined
    expect(
      !stored || created === 1 || mayHaveCreated.has(id),
      'for a stored record, one request got `created`, or an unknown outcome',
    )
  }
}

function expect(condition: boolean, sentence: string): asserts condition {
  if (!condition) throw new Error(`does not hold: ${sentence}`)
}

// — PostgreSQL —

async function openStore(t: Test) {
  const { apiUrl, superUrl } = await createDatabase(t)
  const api = connect({
    url: apiUrl,
    name: 'test',
    connections: 3,
    statementTimeoutMs: 0,
    prepare: true,
    plan: 'byIdentity',
    onError: () => {},
  })
  const root = connectAs(superUrl)
  t.teardown(() => Promise.all([api.destroy(), root.destroy()]))
  await sql`ALTER TABLE sluice.records ADD CONSTRAINT guilty CHECK (type <> ${sql.lit(GUILTY)})`.execute(root)

  return {
    store: createRecordStore(api),
    reset: () => sql`TRUNCATE sluice.records`.execute(root),
    async read() {
      const { rows } = await sql<Row & Position>`
        SELECT source, id, type, data::text AS data, epoch, xid::text AS xid, n FROM sluice.records`.execute(root)
      return new Map(
        rows.map((row) => [identity(row), { row, position: { epoch: row.epoch, xid: row.xid, n: Number(row.n) } }]),
      )
    },
  }
}
