import { EventEmitter } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import fc from 'fast-check'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { openNetwork } from '../../scripts/durability/proxy.ts'
import { type ConnectOptions, connect } from '../../src/data/connect.ts'
import { copyIn } from '../../src/data/copy-in.ts'
import { copyRecords } from '../../src/data/copy-records.ts'
import { insertRecords, SLOTS_PER_FLUSH, toColumns } from '../../src/data/insert-records.ts'
import { pack } from '../../src/data/packed-rows.ts'
import { createRecordStore } from '../../src/data/record-store.ts'
import type { Row } from '../../src/data/row.ts'
import { classifyFailure } from '../../src/data/sqlstate.ts'
import { parseTime } from '../../src/ingest/time.ts'
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
    onError: () => {},
    onQuery: ({ sql }) => statements.push(/COPY|INSERT|AS same/.exec(sql)?.[0] ?? ''),
    ...options,
  })
  t.teardown(() => db.destroy())
  return { db, store: createRecordStore(db), statements }
}

/** All that is stored, but its position. */
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

t.test('whatever can be stored is stored as by an INSERT, and packed rows are those that were packed', async (t) => {
  const { db, store } = open(t)
  await fc.assert(
    fc.asyncProperty(fc.array(fc.oneof(row, bytes), { minLength: 1, maxLength: 20 }), async (some) => {
      const rows = some.map((row, index) => ({ ...row, id: String(index) }))
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

t.test(
  'rows that were joined and cut are stored in their order, at the places that they are told to have',
  async (t) => {
    const { db, store } = open(t)
    const base = store.newBase().first
    const { epoch, xid } = await copyRecords(db, pack(rowsOf(10)).slice(2, 7), base)
    const { rows } = await sql`SELECT epoch, xid::text, n::text, id FROM sluice.records ORDER BY n`.execute(root)
    t.same(
      rows,
      ['2', '3', '4', '5', '6'].map((id, place) => ({ epoch, xid, n: String(base + place), id })),
    )
  },
)

t.test('one that is there already, and one that PostgreSQL refuses, leave nothing behind', async (t) => {
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
  t.equal((await stored()).length, 2, 'the connection goes on')
})

t.test('a defect of ours while rows are written ends that flush, and nothing else', async (t) => {
  const { db, store } = open(t)
  const failure = await copyRecords(db, [makeRow({ time: 'never' })], store.newBase().first).catch((error) => error)
  t.ok(failure instanceof RangeError, String(failure))
  t.match(classifyFailure(failure), { kind: 'defect' })
  await copyRecords(db, rowsOf(1), store.newBase().first)
  t.equal((await stored()).length, 1)
})

// PostgreSQL may answer before it has read it all. What is still to be sent then must not be written over by the next flush.
t.test('one that is refused while it is still being sent is not over before it is sent', async (t) => {
  let [sent, over] = [() => {}, false]
  const stream = {
    write(_bytes: Buffer, done: () => void) {
      sent = done
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
    over = true
  })
  copying.catch(() => {})
  await nextTurn()
  t.notOk(over)
  sent()
  await t.rejects(copying, /refused/)
})

t.test('times are those that PostgreSQL reads in the text', async (t) => {
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
  for (const place of silently ? (['before', 'after'] as const) : (['before', 'half', 'after'] as const)) {
    const how = `${silently ? 'silently ' : ''}${place} its commit`
    t.test(`cut ${how}, and sent again: each row is created, once`, async (t) => {
      const { hostname, port } = new URL(apiUrl)
      const network = await openNetwork({ host: hostname, port: Number(port) })
      t.teardown(network.close)
      const url = Object.assign(new URL(apiUrl), { host: `127.0.0.1:${network.port}` }).href
      const { db, store } = open(t, { url, connections: 2, watched: true })
      const rows = pack(rowsOf(100))
      const base = store.newBase()

      const cut = network.cutCommit(place, silently)
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

// — when it is chosen —

t.test('after many rows that were all new the next are copied, until one is not new', async (t) => {
  const { store, statements } = open(t)
  const write = async (rows: Row[]) => {
    statements.length = 0
    const outcomes = await store.write(rows, store.newBase())
    return [statements.join(), [...new Set(outcomes.map(({ status }) => status))].join()]
  }
  t.same(await write(rowsOf(9_999)), ['INSERT', 'created'])
  t.same(await write(rowsOf(16, {}, 20_000)), ['INSERT', 'created'])
  t.same(await write(rowsOf(16, {}, 30_000)), ['COPY', 'created'])
  t.same(await write(rowsOf(15, {}, 40_000)), ['INSERT', 'created'], 'few rows gain nothing')
  t.same(await write(rowsOf(100, {}, 50_000)), ['COPY', 'created'])

  const again = rowsOf(20, {}, 60_000)
  t.same(await write([...again, ...again]), ['COPY,INSERT,AS same', 'created,duplicate'], 'in vain, once')
  t.same(await write(rowsOf(20, {}, 70_000)), ['INSERT', 'created'])
  t.same(await write(rowsOf(20, { type: 'other' }, 70_000)), ['INSERT,AS same', 'conflict'])
})

t.test('after a COPY in vain it takes twice as many, until others went well', async (t) => {
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

t.test('a row at fault among rows that were copied fails them as it does others, and is not tried twice', async (t) => {
  const { store, statements } = open(t)
  await store.write(rowsOf(10_000), store.newBase())
  const rows = [...rowsOf(20, {}, 20_000), makeRow({ id: 'x', type: '' })]
  for (const tried of ['COPY,INSERT', 'INSERT']) {
    statements.length = 0
    const failure = await store.write(rows, store.newBase()).catch((error) => error)
    t.match(classifyFailure(failure), { kind: 'row', written: 'no' })
    t.equal(statements.join(), tried)
  }
})

t.test('what is sent again after a failure is not copied: it may be stored', async (t) => {
  const { store, statements } = open(t)
  await store.write(rowsOf(10_000), store.newBase())
  const rows = rowsOf(20, {}, 20_000)
  const base = store.newBase()
  const lock = await root.startTransaction().execute()
  await sql`LOCK TABLE sluice.records IN SHARE MODE`.execute(lock)
  const writing = store.write(rows, base).catch((error) => error)
  const ended = sql<object>`
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'sluice-write' AND datname = current_database() AND wait_event_type = 'Lock'`
  await until('a COPY to wait for the lock', async () => (await ended.execute(lock)).rows.length > 0)
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

// — how rows are looked up —

t.test('a large flush is looked up row by row, and does not read the table to its end', async (t) => {
  const { db, store } = open(t)
  for (let n = 0; n < 5; n++) await store.write(rowsOf(5_000, {}, n * 5_000), store.newBase())
  await sql`VACUUM (ANALYZE) sluice.records`.execute(root)
  const scans = async () => {
    // What each connection has counted; that of the other tests' questions too, or it is added in between.
    for (const each of [db, root]) await sql`SELECT pg_stat_force_next_flush()`.execute(each as typeof root)
    const { rows } = await sql<{ n: string }>`
      SELECT seq_scan AS n FROM pg_stat_user_tables WHERE schemaname = 'sluice' AND relname = 'records'`.execute(root)
    return Number(rows[0]?.n)
  }
  const before = await scans()
  for (let n = 0; n < 10; n++) await store.write(rowsOf(2_000), store.newBase())
  t.equal(await scans(), before)
})
