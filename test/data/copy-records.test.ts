import { EventEmitter } from 'node:events'
import { setImmediate as nextIteration } from 'node:timers/promises'
import fc from 'fast-check'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { openNetwork } from '../../scripts/durability/proxy.ts'
import { copyRecords } from '../../src/data/copy-records.ts'
import { insertRecords, SLOTS_PER_FLUSH, toColumns } from '../../src/data/insert-records.ts'
import { createRecordStore } from '../../src/data/record-store.ts'
import { parseTime } from '../../src/lib/rfc3339.ts'
import { type ConnectOptions, connect } from '../../src/postgres/connect.ts'
import { copyIn } from '../../src/postgres/copy-in.ts'
import { pack } from '../../src/postgres/packed-rows.ts'
import type { Row } from '../../src/postgres/row.ts'
import { classifyFailure } from '../../src/postgres/sqlstate.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { jsonText } from '../helpers/json-text.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { makeRow } from '../helpers/rows.ts'
import { until } from '../helpers/until.ts'

const { apiUrl, superUrl } = await createDatabase(t)
const root = connectAs(superUrl)
t.teardown(() => root.destroy())
t.beforeEach(() => sql`TRUNCATE sluice.records`.execute(root))

function open(t: Test, options: Partial<ConnectOptions> = {}) {
  const statements: string[] = []
  const db = connect({
    url: apiUrl,
    name: 'sluice-write',
    connections: 1,
    statementTimeoutMs: 0,
    prepare: true,
    plan: 'byIdentity',
    onError: () => {},
    onQuery: ({ sql }) => statements.push(/COPY|INSERT|AS same/.exec(sql)?.[0] ?? ''),
    ...options,
  })
  t.teardown(() => db.destroy())
  return { db, store: createRecordStore(db), statements }
}

/** All stored records, without their positions. */
async function stored(): Promise<object[]> {
  const { rows } = await sql<object>`
    SELECT source, id, type, subject, "time"::text, dataschema, datacontenttype, extensions::text, data::text, data_bytes
    FROM sluice.records ORDER BY epoch, xid, n`.execute(root)
  return rows
}

const rowsOf = (count: number, fields: Partial<Row> = {}, from = 0): Row[] =>
  Array.from({ length: count }, (_, n) => makeRow({ id: `${from + n}`, ...fields }))

const text = fc.string({ unit: 'binary' }).filter((value) => !value.includes('\0'))
const edge = fc.constantFrom('0001-01-01T00:00:00Z', '0099-12-31T23:59:59.999999Z', '9999-12-31T23:59:59.9Z')
const time = fc
  .tuple(fc.date({ min: new Date('0001-01-01'), max: new Date('9999-12-31'), noInvalidDate: true }), fc.nat(999_999))
  .map(([date, micros]) => `${date.toISOString().slice(0, 19)}.${String(micros).padStart(6, '0')}`)
  .chain((text) => fc.constantFrom(19, 21, 22, 24, 26).map((end) => `${text.slice(0, end)}Z`))
  .map((text) => (parseTime(text) as { utc: string }).utc)
const row: fc.Arbitrary<Omit<Row, 'id'>> = fc.record({
  source: text.map((value) => `s${value}`),
  type: text.map((value) => `t${value}`),
  subject: fc.option(text),
  time: fc.option(fc.oneof(edge, time)),
  dataschema: fc.option(text),
  datacontenttype: fc.option(text),
  extensions: fc.option(fc.constantFrom('{"a":1}', '{"b":"é","c":true}')),
  data: fc.option(jsonText()),
  dataBase64: fc.constant(null),
})
const bytes: fc.Arbitrary<Omit<Row, 'id'>> = fc
  .tuple(row, fc.uint8Array({ maxLength: 50 }))
  .map(([rest, bytes]) => ({ ...rest, data: null, dataBase64: Buffer.from(bytes).toString('base64') }))

t.test('a COPY stores the same values as an INSERT, and packed rows are stored like plain rows', async (t) => {
  const { db, store } = open(t)
  await fc.assert(
    fc.asyncProperty(fc.array(fc.oneof(row, bytes), { minLength: 1, maxLength: 20 }), async (generated) => {
      const rows = generated.map((row, index) => ({ ...row, id: String(index) }))
      const results: object[][] = []
      for (const write of [
        () => insertRecords(db, toColumns(rows), store.newBase().first),
        () => copyRecords(db, rows, store.newBase().first),
        () => copyRecords(db, pack(rows), store.newBase().first),
        () => insertRecords(db, toColumns([...pack(rows)]), store.newBase().first),
      ]) {
        await sql`TRUNCATE sluice.records`.execute(root)
        await write()
        results.push(await stored())
      }
      for (const result of results.slice(1)) t.strictSame(result, results[0])
    }),
    { numRuns: 60 },
  )
})

t.test('a slice of packed rows is stored in order, and the positions are the returned ones', async (t) => {
  const { db, store } = open(t)
  const base = store.newBase().first
  const { epoch, xid } = await copyRecords(db, pack(rowsOf(10)).slice(2, 7), base)
  const { rows } = await sql`SELECT epoch, xid::text, n::text, id FROM sluice.records ORDER BY n`.execute(root)
  t.same(
    rows,
    ['2', '3', '4', '5', '6'].map((id, slot) => ({ epoch, xid, n: String(base + slot), id })),
  )
})

t.test('a COPY with a row that is already stored or rejected stores nothing', async (t) => {
  const { db, store } = open(t)
  await copyRecords(db, rowsOf(1), store.newBase().first)
  for (const rows of [
    rowsOf(50),
    [...rowsOf(20, {}, 1), makeRow({ id: 'x', data: '{' })],
    rowsOf(2, { type: '' }, 1),
  ]) {
    const failure = await copyRecords(db, rows, store.newBase().first).catch((error) => error)
    t.match(classifyFailure(failure), { kind: 'row', written: 'no' })
    t.equal((await stored()).length, 1)
  }
  await copyRecords(db, rowsOf(1, {}, 1), store.newBase().first)
  t.equal((await stored()).length, 2, 'the connection is still usable')
})

t.test('a bug while rows are encoded fails only that flush', async (t) => {
  const { db, store } = open(t)
  const failure = await copyRecords(db, [makeRow({ time: 'never' })], store.newBase().first).catch((error) => error)
  t.ok(failure instanceof RangeError, String(failure))
  t.match(classifyFailure(failure), { kind: 'defect' })
  await copyRecords(db, rowsOf(1), store.newBase().first)
  t.equal((await stored()).length, 1)
})

// PostgreSQL may respond before it has read everything. The next flush must not overwrite bytes that are not sent yet.
t.test('a COPY that is refused while it is being sent settles only after everything is sent', async (t) => {
  let [finishSending, isSettled] = [() => {}, false]
  const stream = {
    write(_bytes: Buffer, done: () => void) {
      finishSending = done
    },
  }
  const connection = { stream, query() {} }
  const client = Object.assign(new EventEmitter(), {
    query(query: { handleCopyInResponse(to: unknown): void; handleError(error: Error): void }) {
      query.handleCopyInResponse(connection)
      query.handleError(new Error('refused'))
    },
  })
  const copying = copyIn(client as never, '', () => {}).finally(() => {
    isSettled = true
  })
  copying.catch(() => {})
  await nextIteration()
  t.notOk(isSettled)
  finishSending()
  await t.rejects(copying, /refused/)
})

t.test('a COPY stores the time that PostgreSQL reads from the text', async (t) => {
  const { db, store } = open(t)
  const times = fc.sample(fc.oneof(edge, time), 200)
  await copyRecords(
    db,
    times.map((time, n) => makeRow({ id: `${n}`, time })),
    store.newBase().first,
  )
  const { rows } = await sql<{ time: string }>`SELECT unnest(${times}::timestamptz[])::text AS time`.execute(root)
  t.same(
    (await stored()).map((row) => (row as { time: string }).time),
    rows.map(({ time }) => time),
  )
})

for (const silently of [false, true]) {
  for (const when of silently ? (['before', 'after'] as const) : (['before', 'half', 'after'] as const)) {
    const how = `${silently ? 'silently ' : ''}cut (${when} the commit)`
    t.test(`a COPY whose connection is ${how} is retried, and each row is created once`, async (t) => {
      const { hostname, port } = new URL(apiUrl)
      const network = await openNetwork({ host: hostname, port: Number(port) })
      t.teardown(network.close)
      const url = Object.assign(new URL(apiUrl), { host: `127.0.0.1:${network.port}` }).href
      const { db, store } = open(t, { url, connections: 2, watched: true })
      const rows = pack(rowsOf(100))
      const base = store.newBase()

      const cut = network.cutCommit(when, silently)
      const failure = await copyRecords(db, rows, base.first).catch((error) => error)
      await cut
      t.match(classifyFailure(failure), { kind: 'transient', written: 'unknown' })
      const outcomes = await store.write(rows, base)
      t.ok(outcomes.every(({ status }) => status === 'created'))
      t.equal((await stored()).length, 100)
      t.ok(outcomes.every((outcome) => 'position' in outcome && outcome.position.n < base.first + SLOTS_PER_FLUSH))
    })
  }
}

// — when COPY is chosen —

t.test('after 10,000 new rows the next flushes are copied, until one has a row that is not new', async (t) => {
  const { store, statements } = open(t)
  const write = async (rows: Row[]) => {
    statements.length = 0
    const outcomes = await store.write(rows, store.newBase())
    return [statements.join(), [...new Set(outcomes.map(({ status }) => status))].join()]
  }
  t.same(await write(rowsOf(9_999)), ['INSERT', 'created'])
  t.same(await write(rowsOf(16, {}, 20_000)), ['INSERT', 'created'])
  t.same(await write(rowsOf(16, {}, 30_000)), ['COPY', 'created'])
  t.same(await write(rowsOf(15, {}, 40_000)), ['INSERT', 'created'], 'COPY is not faster for a few rows')
  t.same(await write(rowsOf(100, {}, 50_000)), ['COPY', 'created'])

  const again = rowsOf(20, {}, 60_000)
  t.same(await write([...again, ...again]), ['COPY,INSERT,AS same', 'created,duplicate'], 'the COPY fails once')
  t.same(await write(rowsOf(20, {}, 70_000)), ['INSERT', 'created'])
  t.same(await write(rowsOf(20, { type: 'other' }, 70_000)), ['INSERT,AS same', 'conflict'])
})

t.test('after a failed COPY, twice as many new rows are needed, until others are copied', async (t) => {
  const { store, statements } = open(t)
  const write = async (from: number, to: number) => {
    statements.length = 0
    await store.write(rowsOf(to - from, {}, from), store.newBase())
    return statements.join()
  }
  await write(0, 10_000)
  t.equal(await write(0, 16), 'COPY,INSERT,AS same')
  await write(10_000, 20_000)
  t.equal(await write(20_000, 20_016), 'INSERT')
  await write(20_016, 30_000)
  t.equal(await write(30_000, 40_000), 'COPY')

  t.equal(await write(0, 1), 'INSERT,AS same')
  await write(40_000, 50_000)
  t.equal(await write(50_000, 50_016), 'COPY')
})

t.test('after a failed COPY, an event that another mode spells differently is a duplicate', async (t) => {
  const { store, statements } = open(t)
  const event = { datacontenttype: 'application/xml', extensions: '{"count":5}', data: '"<a/>"' }
  await store.write(rowsOf(10_000, event), store.newBase())
  statements.length = 0
  const other = { datacontenttype: 'Application/XML;charset=utf-8', extensions: '{"count":"5"}', data: null }
  const rows = rowsOf(20, { ...other, dataBase64: btoa('<a/>') })
  for (const sent of [rows, pack(rows)]) {
    const outcomes = await store.write(sent, store.newBase())
    t.same(new Set(outcomes.map(({ status }) => status)), new Set(['duplicate']))
  }
  t.match(statements.join(), /^COPY,INSERT,AS same/)
})

t.test('a row at fault fails a COPY and then its INSERT, and the next try does not COPY', async (t) => {
  const { store, statements } = open(t)
  await store.write(rowsOf(10_000), store.newBase())
  const rows = [...rowsOf(20, {}, 20_000), makeRow({ id: 'x', type: '' })]
  for (const expected of ['COPY,INSERT', 'INSERT']) {
    statements.length = 0
    const failure = await store.write(rows, store.newBase()).catch((error) => error)
    t.match(classifyFailure(failure), { kind: 'row', written: 'no' })
    t.equal(statements.join(), expected)
  }
})

t.test('a retry after a failed COPY is not copied, because the rows may be stored', async (t) => {
  const { store, statements } = open(t)
  await store.write(rowsOf(10_000), store.newBase())
  const rows = rowsOf(20, {}, 20_000)
  const base = store.newBase()
  const lock = await root.startTransaction().execute()
  await sql`LOCK TABLE sluice.records IN SHARE MODE`.execute(lock)
  const writing = store.write(rows, base).catch((error) => error)
  const terminate = sql<object>`
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'sluice-write' AND datname = current_database() AND wait_event_type = 'Lock'`
  await until('a COPY to wait for the lock', async () => (await terminate.execute(lock)).rows.length > 0)
  t.match(classifyFailure(await writing), { kind: 'transient' })
  t.equal(statements.at(-1), 'COPY')
  await lock.rollback().execute()
  statements.length = 0
  for (let done = false; !done; )
    done = await store.write(rows, base).then(
      () => true,
      () => false,
    )
  t.notOk(statements.includes('COPY'), statements.join())
  t.equal((await stored()).length, 10_020)
})

// — the plan of the look-up —

t.test('a large flush looks its rows up in the index and does not scan the table', async (t) => {
  const { db, store } = open(t)
  for (let n = 0; n < 5; n++) await store.write(rowsOf(5_000, {}, n * 5_000), store.newBase())
  await sql`VACUUM (ANALYZE) sluice.records`.execute(root)
  const scans = async () => {
    // Each connection counts its own scans. Those of `root` are flushed as well, so that they are not added in between.
    for (const connection of [db, root]) await sql`SELECT pg_stat_force_next_flush()`.execute(connection as typeof root)
    const { rows } = await sql<{ n: string }>`
      SELECT seq_scan AS n FROM pg_stat_user_tables WHERE schemaname = 'sluice' AND relname = 'records'`.execute(root)
    return Number(rows[0]?.n)
  }
  const before = await scans()
  for (let n = 0; n < 10; n++) await store.write(rowsOf(2_000), store.newBase())
  t.equal(await scans(), before)
})
