import { Kysely, PostgresDialect, type PostgresPoolClient, sql } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import { SLOTS_PER_FLUSH } from '../../src/data/insert-records.ts'
import { createRecordStore, type RecordStore, type RowOutcome } from '../../src/data/record-store.ts'
import { selectRecord } from '../../src/data/select-records.ts'
import type { Position } from '../../src/lib/offset.ts'
import { toRfc3339 } from '../../src/lib/pg-time.ts'
import { connect } from '../../src/postgres/connect.ts'
import type { Row } from '../../src/postgres/row.ts'
import { classifyFailure } from '../../src/postgres/sqlstate.ts'
import type { Database, Tables } from '../../src/postgres/tables.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { untilBlocked } from '../helpers/locks.ts'
import { sqlError } from '../helpers/memory-store.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { makeRow } from '../helpers/rows.ts'
import { until } from '../helpers/until.ts'

const { apiUrl, superUrl } = await createDatabase(t)
// Two connections: one may hold a lock.
const root = connectAs(superUrl, 2)
t.teardown(() => root.destroy())

t.beforeEach(() => sql`TRUNCATE sluice.records, sluice.epochs`.execute(root))

// — one outcome per row —

t.test('a new identity is created', async (t) => {
  const { store, ids } = openStore(t)
  const [outcome] = await store.write([makeRow()], store.newBase())
  t.match(outcome, { status: 'created', position: { epoch: 1, xid: /^\d+$/ } })
  t.same(await ids(), ['1'])
})

t.test('a row with a stored identity is a duplicate or a conflict, and the record is unchanged', async (t) => {
  const { store, api } = openStore(t)
  const row = makeRow({
    subject: 's',
    time: '2026-01-02T03:04:05.678901Z',
    extensions: '{"a":1,"b":"x"}',
    data: '{"n":1}',
  })
  const [created] = await store.write([row], store.newBase())
  const write = async (changes: Partial<Row>) => (await store.write([{ ...row, ...changes }], store.newBase()))[0]

  t.same(await write({}), { ...created, status: 'duplicate' })
  for (const changes of [
    { type: 'other' },
    { subject: null },
    { subject: 'S' },
    { subject: '' },
    { time: '2026-01-02T03:04:05.678902Z' },
    { dataschema: 'https://example.com/' },
    { datacontenttype: 'text/json' },
    { extensions: null },
    { extensions: '{"a":1}' },
    { data: '{"n":2}' },
    { data: '{"n":"1"}' },
    { data: null },
    { data: 'null' },
    { data: null, dataBase64: 'AA==' },
  ]) {
    t.same(await write(changes), { ...created, status: 'conflict' }, JSON.stringify(changes))
  }
  t.match(await selectRecord(api, 'shop', '1'), { type: 'order.placed', subject: 's', data: '{"n":1}' })
})

t.test('the order of keys, white space and the spelling of numbers do not matter in a comparison', async (t) => {
  const { store } = openStore(t)
  await store.write(
    [makeRow({ data: '{"a":1,"b":[1.0,{"c":null}]}', extensions: '{"x":1,"y":true}' })],
    store.newBase(),
  )
  t.same(
    statuses(
      await store.write(
        [makeRow({ data: '{ "b": [1, {"c":null}], "a": 10e-1 }', extensions: '{"y":true,"x":1}' })],
        store.newBase(),
      ),
    ),
    ['duplicate'],
  )
})

t.test('binary data is compared too', async (t) => {
  const { store } = openStore(t)
  const write = async (dataBase64: string) =>
    statuses(await store.write([makeRow({ data: null, dataBase64 })], store.newBase()))
  t.same(await write('AAH/'), ['created'])
  t.same(await write('AAH/'), ['duplicate'])
  t.same(await write('AAH+'), ['conflict'])
  t.same(await write(''), ['conflict'])
})

t.test('two numbers that are equal as doubles are different content', async (t) => {
  const { store } = openStore(t)
  await store.write([makeRow({ data: '{"n":12345678901234567890}' })], store.newBase())
  const again = (data: string) => store.write([makeRow({ data })], store.newBase())
  t.same(statuses(await again('{"n":12345678901234567891}')), ['conflict'])
  t.same(statuses(await again('{"n":12345678901234567890}')), ['duplicate'])
})

// A row with a time was a duplicate of a record without one: the time was lost.
t.test(
  'a time must equal the stored one or the time of receipt; a row without a time says nothing about it',
  async (t) => {
    const { store, api } = openStore(t)
    const time = '2026-01-02T03:04:05Z'
    const free = makeRow({ id: 'free' })
    // The last two are in the same write as the row that they repeat.
    const first = [makeRow({ id: 'without' }), makeRow({ id: 'with', time }), free, { ...free, time }, free]
    t.same(statuses(await store.write(first, store.newBase())), [
      'created',
      'created',
      'created',
      'conflict',
      'duplicate',
    ])
    const receivedAt = toRfc3339((await selectRecord(api, 'shop', 'without'))?.received_at as string)
    const again = [
      makeRow({ id: 'without' }),
      makeRow({ id: 'without', time }),
      // The form in an export.
      makeRow({ id: 'without', time: receivedAt }),
      makeRow({ id: 'with', time }),
      makeRow({ id: 'with', time: receivedAt }),
      makeRow({ id: 'with' }),
    ]
    const expected = ['duplicate', 'conflict', 'duplicate', 'duplicate', 'conflict', 'duplicate']
    for (const compareFirst of [false, true])
      t.same(statuses(await store.write(again, { ...store.newBase(), compareFirst })), expected)
    for (const [at, row] of again.entries()) {
      const strict = statuses(await store.writeStrict([makeRow({ id: `next to ${at}` }), row], store.newBase()))
      t.equal(strict[1], expected[at], `strict, ${at}`)
    }
  },
)

t.test('no datacontenttype equals application/json, and no other type', async (t) => {
  const { store } = openStore(t)
  const write = async (id: string, datacontenttype: string | null) =>
    statuses(await store.write([makeRow({ id, datacontenttype })], store.newBase()))[0]
  for (const [stored, sent, expected] of [
    [null, 'application/json', 'duplicate'],
    ['application/json', null, 'duplicate'],
    [null, 'text/plain', 'conflict'],
    ['text/plain', null, 'conflict'],
    ['application/json', 'application/x+json', 'conflict'],
  ] as const) {
    const id = `${stored} ${sent}`
    t.equal(await write(id, stored), 'created', id)
    t.equal(await write(id, sent), expected, id)
  }
})

// jsonb keeps only the last value of a repeated key, so texts that differ in the other values were equal.
t.test('a payload that repeats a key is compared as text, at any depth and with any spelling of the key', async (t) => {
  const { store } = openStore(t)
  let id = 0
  const statusOf = async (stored: string, sent: string) => {
    id++
    await store.write([makeRow({ id: String(id), data: stored })], store.newBase())
    return statuses(await store.write([makeRow({ id: String(id), data: sent })], store.newBase()))[0]
  }
  const repeated = '{"a":1,"a":2}'
  t.equal(await statusOf(repeated, '{"a":3,"a":2}'), 'conflict')
  t.equal(await statusOf(repeated, '{"a":2}'), 'conflict')
  t.equal(await statusOf('{"a":2}', repeated), 'conflict')
  t.equal(await statusOf('[{"b":{"a":1,"a":2}}]', '[{"b":{"a":3,"a":2}}]'), 'conflict')
  t.equal(await statusOf('{"a":1,"\\u0061":2}', '{"a":3,"a":2}'), 'conflict')
  t.equal(await statusOf(repeated, repeated), 'duplicate')
  t.equal(await statusOf('{"a":1,\r\n"a":2}', '{"a":1,  "a":2}'), 'duplicate', 'as an export writes it')
  t.equal(await statusOf('{"a":1,\r\n"a":2}', '{"a":3,  "a":2}'), 'conflict')
  t.equal(await statusOf('[{"a":1},{"a":2}]', '[{"a":1}, {"a":2}]'), 'duplicate', 'the same key in two objects')
})

// The comparison failed after the INSERT was committed. The flush was split, and its new rows became duplicates.
t.test('a stored payload that jsonb cannot represent is a conflict, and other rows are not affected', async (t) => {
  const { store } = openStore(t)
  // Sluice stores no such payload, but other programs can.
  await sql`INSERT INTO sluice.records (epoch, n, source, id, type, data)
    VALUES (sluice.current_epoch(), 0, 'shop', 'odd', 'order.placed', ${'{"a":"\\u0000"}'})`.execute(root)
  const rows = [makeRow({ id: 'new' }), makeRow({ id: 'odd', data: '{"a":1}' })]
  t.same(statuses(await store.write(rows, store.newBase())), ['created', 'conflict'])
})

t.test('the trace is not compared, because it may come from a header and changes with each retry', async (t) => {
  const { store } = openStore(t)
  await store.write([makeRow({ extensions: '{"traceparent":"a"}' })], store.newBase())
  const again = [
    makeRow({ extensions: '{"traceparent":"b","tracestate":"c"}' }),
    makeRow(),
    makeRow({ extensions: '{"traceparent":"a","other":1}' }),
  ]
  t.same(statuses(await store.write(again, store.newBase())), ['duplicate', 'duplicate', 'conflict'])
})

t.test('an identity is the pair of source and id', async (t) => {
  const { store } = openStore(t)
  const rows = [
    makeRow({ source: 'a', id: 'bc' }),
    makeRow({ source: 'ab', id: 'c' }),
    makeRow({ source: 'a', id: 'BC' }),
  ]
  t.same(statuses(await store.write(rows, store.newBase())), ['created', 'created', 'created'])
})

t.test('the first row of a flush with an identity creates it, and the others are compared with it', async (t) => {
  const { store, ids } = openStore(t)
  const rows = [makeRow(), makeRow({ id: '2' }), makeRow(), makeRow({ type: 'other' }), makeRow({ id: '2' })]
  const outcomes = await store.write(rows, store.newBase())
  t.same(statuses(outcomes), ['created', 'created', 'duplicate', 'conflict', 'duplicate'])
  t.same(position(outcomes[2]), position(outcomes[0]))
  t.same(position(outcomes[3]), position(outcomes[0]))
  t.same(await ids(), ['1', '2'])
})

t.test('the outcomes have the positions of the rows, in order', async (t) => {
  const { store, api } = openStore(t)
  const base = store.newBase()
  const outcomes = await store.write(
    ['a', 'b', 'c'].map((id) => makeRow({ id })),
    base,
  )
  for (const [slot, id] of ['a', 'b', 'c'].entries()) {
    const stored = await selectRecord(api, 'shop', id)
    t.same(position(outcomes[slot]), { epoch: stored?.epoch, xid: stored?.xid, n: Number(stored?.n) })
    t.equal(position(outcomes[slot]).n, base.first + slot)
  }
})

t.test('bases are multiples of SLOTS_PER_FLUSH, and all slots are safe integers', async (t) => {
  const { store } = openStore(t)
  const bases = Array.from({ length: 1000 }, () => store.newBase().first)
  t.ok(bases.every((first) => first % SLOTS_PER_FLUSH === 0 && Number.isSafeInteger(first + SLOTS_PER_FLUSH)))
})

t.test('if two flushes write the same identities in opposite order, each identity is created once', async (t) => {
  const { store, ids } = openStore(t)
  const rows = Array.from({ length: 50 }, (_, index) => makeRow({ id: `${index}` }))
  const [one, other] = await Promise.all([writeWithRetries(store, rows), writeWithRetries(store, rows.toReversed())])
  const created = [...statuses(one), ...statuses(other)].filter((status) => status === 'created')
  t.equal(created.length, 50)
  t.equal((await ids()).length, 50)
})

// — stored values —

t.test('every column is read back as it was sent, with nulls, empty texts, emoji and odd payloads', async (t) => {
  const { store, api } = openStore(t)
  const rows: Row[] = [
    makeRow({ id: 'bare', data: null }),
    makeRow({
      source: 'https://example.com/a?b=c#d',
      id: '👩‍👩‍👧 / %41',
      type: '漢字',
      subject: '',
      time: '0001-01-01T00:00:00.000001Z',
      dataschema: 'urn:x',
      datacontenttype: 'text/plain; x="y"',
      extensions: '{"flag": true, "text": ""}',
      data: '{"b":1, "a":[12345678901234567890,0.1000000000000000055,-0,1e5],"b":"\\u00e9{},NULL\\"\\\\"}',
    }),
    makeRow({ id: 'bytes', data: null, dataBase64: 'AAH/gA==' }),
    makeRow({ id: 'no bytes', data: null, dataBase64: '' }),
    makeRow({ id: 'null', data: 'null' }),
    makeRow({ id: 'text', data: '""' }),
  ]
  t.same(statuses(await store.write(rows, store.newBase())), new Array(rows.length).fill('created'))
  for (const row of rows) {
    const { dataBase64, time, extensions, ...same } = row
    t.match(await selectRecord(api, row.source, row.id), {
      ...same,
      time: time?.startsWith('0001') ? '0001-01-01 00:00:00.000001+00' : null,
      extensions: extensions === null ? null : '{"flag": true, "text": ""}',
      data_base64: dataBase64,
    })
  }
  t.same(statuses(await store.write(rows, store.newBase())), new Array(rows.length).fill('duplicate'))
})

t.test('a flush with more rows than a statement can have parameters is stored', async (t) => {
  const { store } = openStore(t)
  const rows = Array.from({ length: 70_000 }, (_, index) => makeRow({ id: `${index}` }))
  const outcomes = await store.write(rows, store.newBase())
  t.ok(outcomes.every(({ status }) => status === 'created'))
})

// — retries after a lost response —

t.test('a retried flush gets the same outcomes; a new flush with the same rows gets duplicates', async (t) => {
  const { store, ids } = openStore(t)
  const rows = [makeRow(), makeRow({ id: '2' }), makeRow()]
  const base = store.newBase()
  const first = await store.write(rows, base)
  t.same(await store.write(rows, base), first)
  t.same(statuses(await store.write(rows, store.newBase())), ['duplicate', 'duplicate', 'duplicate'], 'another flush')
  t.same(await ids(), ['1', '2'])
})

t.test('a retried flush distinguishes the rows that it created from the records that existed before', async (t) => {
  const { store } = openStore(t)
  await store.write([makeRow({ id: 'old' }), makeRow({ id: 'other', type: 'other' })], store.newBase())
  const rows = ['new', 'old', 'other', 'newer'].map((id) => makeRow({ id }))
  const base = store.newBase()
  for (let tries = 0; tries < 2; tries++) {
    t.same(statuses(await store.write(rows, base)), ['created', 'duplicate', 'conflict', 'created'])
  }
})

t.test('a retried flush without its first row still recognises the others', async (t) => {
  const { store } = openStore(t)
  const rows = ['a', 'b', 'c'].map((id) => makeRow({ id }))
  const base = store.newBase()
  await store.write(rows, base)
  t.same(statuses(await store.write(rows.slice(1), base)), ['created', 'created'])
})

// Two requests shared a flush, and the deadline of the first one passed before the retry. The second one got `created`, although
// the stored record has the content of the first one.
t.test('in a retried flush, a row is a conflict if a row with other content created the record', async (t) => {
  const { store, api } = openStore(t)
  const [creator, other] = [makeRow({ data: '1' }), makeRow({ data: '2' })]
  const base = store.newBase()
  await store.write([creator, other], base)
  t.same(statuses(await store.write([other, creator], base)), ['conflict', 'created'])
  t.match(await selectRecord(api, 'shop', '1'), { data: '1' })
})

// An INSERT checks constraints, a comparison does not. If the first try only compared, and the retry inserted and found a row at
// fault, the flush was split. The halves had new bases, so rows that the first try had created became duplicates.
t.test('a retried flush fails or succeeds like the first try, whatever was written in between', async (t) => {
  const { store } = openStore(t)
  const known = ['1', '2'].map((id) => makeRow({ id }))
  const resultOf = (writing: Promise<RowOutcome[]>) => writing.then(statuses, classifyFailure)
  await store.write(known, store.newBase())
  for (const between of [known, ['3', '4'].map((id) => makeRow({ id }))]) {
    await store.write(known, store.newBase())
    const base = store.newBase()
    const rows = [makeRow({ id: '1', type: '' }), makeRow({ id: `new ${between.length} ${between[0]?.id}` })]
    const first = await resultOf(store.write(rows, base))
    await store.write(between, store.newBase())
    t.same(await resultOf(store.write(rows, base)), first)
  }
})

t.test('a strict write that is sent again after its commit gets the same outcomes', async (t) => {
  const { store } = openStore(t)
  const rows = [makeRow(), makeRow({ id: '2' })]
  const base = store.newBase()
  const first = await store.writeStrict(rows, base)
  t.same(await store.writeStrict(rows, base), first)
})

t.test('a retried strict write gets the same outcomes, even if its records were deleted or replaced', async (t) => {
  const { store } = openStore(t)
  const rows = [makeRow(), makeRow({ id: '2' }), makeRow({ id: '3' })]
  const base = store.newBase()
  const first = await store.writeStrict(rows, base)
  await sql`DELETE FROM sluice.records WHERE id IN ('2', '3')`.execute(root)
  await store.write([makeRow({ id: '2', type: 'of somebody else' })], store.newBase())
  t.same(await store.writeStrict(rows, base), first)
})

// — strict writes —

t.test('a strict write without conflicts or rejected rows commits all rows', async (t) => {
  const { store, ids } = openStore(t)
  await store.write([makeRow()], store.newBase())
  const rows = [makeRow(), makeRow({ id: '2' }), makeRow({ id: '2' })]
  t.same(statuses(await store.writeStrict(rows, store.newBase())), ['duplicate', 'created', 'duplicate'])
  t.same(await ids(), ['1', '2'])
})

t.test('a conflict rolls back a strict write, and the outcomes show which row it is', async (t) => {
  const { store, ids } = openStore(t)
  await store.write([makeRow()], store.newBase())
  const rows = [makeRow({ id: '2' }), makeRow({ type: 'other' }), makeRow({ id: '3' })]
  t.same(statuses(await store.writeStrict(rows, store.newBase())), ['created', 'conflict', 'created'])
  t.same(await ids(), ['1'])
})

t.test('a conflict between two rows of a strict write rolls it back', async (t) => {
  const { store, ids } = openStore(t)
  const rows = [makeRow(), makeRow({ type: 'other' })]
  t.same(statuses(await store.writeStrict(rows, store.newBase())), ['created', 'conflict'])
  t.same(await ids(), [])
})

t.test('rejected rows roll back a strict write, and each row gets its own outcome', async (t) => {
  const { store, ids } = openStore(t)
  await store.write([makeRow({ id: 'old' }), makeRow({ id: 'other', type: 'other' })], store.newBase())
  const rows = [
    makeRow({ id: 'new' }),
    makeRow({ id: 'a', data: '{' }),
    makeRow({ id: 'old' }),
    makeRow({ id: 'b', type: '' }),
    makeRow({ id: 'other' }),
    makeRow({ id: 'c', extensions: '{' }),
    makeRow({ id: 'newer' }),
  ]
  const outcomes = await store.writeStrict(rows, store.newBase())
  t.same(
    outcomes.map((outcome) => (outcome.status === 'rejected' ? outcome.sqlstate : outcome.status)),
    ['created', '22P02', 'duplicate', '23514', 'conflict', '22P02', 'created'],
  )
  t.same(await ids(), ['old', 'other'])
})

// After its savepoint, the row is accepted; the commit rejects it. With savepoints alone, the response was 201 for a batch of
// which nothing was stored.
t.test('a row that is rejected only at the commit rolls back a strict write, and is found', async (t) => {
  const { store, ids } = openStore(t)
  await rejectAtCommit(t, 'late')
  const rows = [makeRow(), makeRow({ id: '2', type: 'late' }), makeRow({ id: '3' })]
  t.same(
    (await store.writeStrict(rows, store.newBase())).map((outcome) =>
      outcome.status === 'rejected' ? outcome.sqlstate : outcome.status,
    ),
    ['created', '23514', 'created'],
  )
  t.same(await ids(), [])
})

// The INSERT commits by itself. When the comparison after it failed and was rolled back, the whole write was reported as rolled
// back.
t.test('a comparison that fails after the commit leaves the outcome unknown, and the retry is exact', async (t) => {
  let failing = true
  const before = async (statement: string) => {
    if (failing && statement.includes('pg_logical_emit_message')) throw sqlError('57014')
  }
  const { store, ids } = openStore(t, { before })
  await store.write([makeRow({ id: 'taken' })], store.newBase())
  for (const strict of [true, false]) {
    failing = true
    const base = store.newBase()
    const write = () => {
      const rows = [makeRow({ id: 'taken' }), makeRow({ id: 'new' })]
      return strict ? store.writeStrict(rows, base) : store.write(rows, base)
    }
    const written = strict ? 'no' : 'unknown'
    t.match(
      classifyFailure(await failureOf(write())),
      { kind: 'transient', written, unavailable: false },
      `strict: ${strict}`,
    )
    t.same(await ids(), strict ? ['taken'] : ['new', 'taken'])
    failing = false
    t.same(
      (await write()).map(({ status }) => status),
      ['duplicate', 'created'],
    )
    if (strict) await sql`DELETE FROM sluice.records WHERE id = 'new'`.execute(root)
  }
})

t.test('if a comparison fails and the INSERT stored nothing, nothing was written', async (t) => {
  const { store } = openStore(t, {
    before: async (statement) => {
      if (statement.includes('pg_logical_emit_message')) throw sqlError('55P03')
    },
  })
  const rows = [makeRow({ id: 'taken' })]
  await store.write(rows, store.newBase())
  t.match(classifyFailure(await failureOf(store.write(rows, store.newBase()))), { kind: 'transient', written: 'no' })
})

t.test('a strict write with a rejected row fails if that row cannot be found afterwards', async (t) => {
  const { store, ids } = openStore(t, { before: dropConstraint })
  await sql`ALTER TABLE sluice.records ADD CONSTRAINT passing CHECK (type <> 'passing')`.execute(root)
  // Before the search for the rejected row, the constraint is dropped.
  async function dropConstraint(statement: string) {
    if (statement.startsWith('savepoint'))
      await sql`ALTER TABLE sluice.records DROP CONSTRAINT IF EXISTS passing`.execute(root)
  }
  const failure = await failureOf(store.writeStrict([makeRow({ type: 'passing' })], store.newBase()))
  t.match(classifyFailure(failure), { kind: 'row', written: 'no' })
  t.same(await ids(), [])
})

t.test('a connection that breaks during the search for rejected rows does not exhaust the pool', async (t) => {
  const { store, ids } = openStore(t, {
    connections: 1,
    async before(statement) {
      if (statement.startsWith('savepoint')) await kill()
    },
  })
  const kill = () =>
    sql`SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
        WHERE application_name = 'record-store' AND datname = current_database()`.execute(root)
  for (let tries = 0; tries < 3; tries++) {
    const failure = await failureOf(store.writeStrict([makeRow({ data: '{' })], store.newBase()))
    t.match(classifyFailure(failure), { kind: 'transient', written: 'unknown' })
  }
  t.same(statuses(await store.write([makeRow()], store.newBase())), ['created'])
  t.same(await ids(), ['1'])
})

t.test('a deadlock during the search for rejected rows is transient', async (t) => {
  let isSearching = false
  const { store, ids } = openStore(t, {
    async before(statement) {
      isSearching ||= statement.startsWith('savepoint')
      if (isSearching && statement.includes('INSERT')) throw sqlError('40P01')
    },
  })
  const failure = await failureOf(store.writeStrict([makeRow({ data: '{' })], store.newBase()))
  t.match(classifyFailure(failure), { kind: 'transient', written: 'no' })
  t.same(await ids(), [])
})

// — failures —

t.test('a write with a row at fault fails as a whole and stores nothing', async (t) => {
  const { store, ids } = openStore(t)
  for (const fault of [{ data: '{' }, { type: '' }, { extensions: '[' }, { dataBase64: 'AA==' }, { source: '' }]) {
    const failure = await failureOf(store.write([makeRow(), makeRow({ id: '2', ...fault })], store.newBase()))
    t.match(classifyFailure(failure), { kind: 'row', written: 'no' }, JSON.stringify(fault))
  }
  t.same(await ids(), [])
})

t.test('a write whose backend is terminated fails as a broken connection, and the next write succeeds', async (t) => {
  const { store, ids } = openStore(t)
  const lock = await lockRecords()
  const writing = failureOf(store.write([makeRow()], store.newBase()))
  await lock.whenWaitedFor()
  await sql`
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'record-store' AND datname = current_database()`.execute(root)
  t.match(classifyFailure(await writing), { kind: 'transient', written: 'unknown' })
  await lock.release()
  t.same(statuses(await writeWithRetries(store, [makeRow()])), ['created'])
  t.same(await ids(), ['1'])
})

t.test('without a server, a write fails and nothing was written', async (t) => {
  const api = connect({ url: 'postgres://sluice_api@127.0.0.1:1/none', ...SETTINGS })
  t.teardown(() => api.destroy())
  const failure = await failureOf(createRecordStore(api).write([makeRow()], { first: 0, compareFirst: false }))
  t.match(classifyFailure(failure), { kind: 'transient', written: 'no' })
})

// — retention —

for (const verb of ['write', 'writeStrict'] as const) {
  t.test(`${verb}: a row is stored if retention deletes the stored record before the comparison`, async (t) => {
    let isDeleted = false
    const { store, ids, api } = openStore(t, {
      // The rows are compared because one of them is stored. That record is deleted before the comparison.
      async before(statement) {
        if (isDeleted || !statement.includes('AS same')) return
        isDeleted = true
        await sql`DELETE FROM sluice.records WHERE id = 'old'`.execute(root)
      },
    })
    await store.write([makeRow({ id: 'old' })], store.newBase())
    const base = store.newBase()
    const outcomes = await store[verb](
      [makeRow({ id: 'new' }), makeRow({ id: 'old', data: '2' }), makeRow({ id: 'newer' })],
      base,
    )
    t.ok(isDeleted)
    t.same(statuses(outcomes), ['created', 'created', 'created'])
    t.same(await ids(), ['new', 'newer', 'old'])
    const stored = await selectRecord(api, 'shop', 'old')
    t.match(stored, { data: '2', n: String(position(outcomes[1]).n) })
    t.ok(
      position(outcomes[1]).n >= base.first && position(outcomes[1]).n < base.first + SLOTS_PER_FLUSH,
      'a retry would recognise it',
    )
  })
}

// — positions in the feed —

t.test('after a restore into another cluster, new records have a new epoch and sort after all others', async (t) => {
  const { store } = openStore(t)
  const [before] = await store.write([makeRow({ id: 'before' })], store.newBase())
  // The transaction ids of the first cluster were far ahead, as after a dump of an old server.
  await sql`UPDATE sluice.records SET xid = '1152921504606846976'`.execute(root)
  await sql`UPDATE sluice.epochs SET system_identifier = 1`.execute(root)
  const [after] = await store.write([makeRow({ id: 'after' })], store.newBase())
  const [later] = await store.write([makeRow({ id: 'later' })], store.newBase())

  const [old, epoch, same] = [before, after, later].map((outcome) => position(outcome).epoch)
  t.equal(old, 1)
  t.ok((epoch as number) > 1)
  t.equal(same, epoch)
  t.same(await feed(), ['before', 'after', 'later'])
})

t.test('after a restore to an earlier point, which has a new timeline, a new epoch begins', async (t) => {
  const { store } = openStore(t)
  await store.write([makeRow({ id: 'before' })], store.newBase())
  await sql`UPDATE sluice.epochs SET timeline = timeline + 1`.execute(root)
  const [after] = await store.write([makeRow({ id: 'after' })], store.newBase())
  t.ok(position(after).epoch > 1)
  t.same(await feed(), ['before', 'after'])
})

// An epoch was one higher than the latest in the database. If a backup was restored twice, and the first restored database was
// lost, both restores began an epoch with the same number. New records then sorted before records that consumers had read.
t.test('the second restore of a backup has a higher epoch than the first, which left no trace', async (t) => {
  const { store } = openStore(t)
  await store.write([makeRow({ id: 'before' })], store.newBase())
  await sql`UPDATE sluice.epochs SET system_identifier = 1`.execute(root)
  const [lost] = await store.write([makeRow({ id: 'lost' })], store.newBase())
  // The backup contains neither the epoch nor the record.
  await sql`DELETE FROM sluice.epochs WHERE epoch > 1`.execute(root)
  await sql`DELETE FROM sluice.records WHERE id = 'lost'`.execute(root)
  // Epochs are whole seconds since 2025.
  await until('the next second', async () => {
    const { rows } = await sql<{ later: boolean }>`
      SELECT extract(epoch FROM now() - '2025-01-01 00:00:00+00'::timestamptz) > ${position(lost).epoch}::integer + 1 AS later`.execute(
      root,
    )
    return rows[0]?.later
  })
  // Another instance: the first one has seen the lost epoch.
  const { store: other } = openStore(t)
  const [after] = await other.write([makeRow({ id: 'after' })], other.newBase())
  t.ok(position(after).epoch > position(lost).epoch)
})

t.test('concurrent writers on a restored database agree on one new epoch', async (t) => {
  const { store } = openStore(t, { connections: 8 })
  await store.write([makeRow()], store.newBase())
  await sql`UPDATE sluice.epochs SET system_identifier = 1`.execute(root)
  const outcomes = await Promise.all(
    Array.from({ length: 24 }, (_, index) => store.write([makeRow({ id: `new ${index}` })], store.newBase())),
  )
  const epochs = new Set(outcomes.map(([outcome]) => position(outcome).epoch))
  t.equal(epochs.size, 1)
  const { rows } = await sql`SELECT epoch FROM sluice.epochs ORDER BY epoch`.execute(root)
  t.same(rows, [{ epoch: 1 }, { epoch: [...epochs][0] }])
})

t.test('a duplicate of a record from an earlier epoch has the position of that record', async (t) => {
  const { store } = openStore(t)
  const [before] = await store.write([makeRow()], store.newBase())
  await sql`UPDATE sluice.epochs SET system_identifier = 1`.execute(root)
  t.same(await store.write([makeRow()], store.newBase()), [{ ...before, status: 'duplicate' }])
})

// — helpers —

const SETTINGS = {
  name: 'record-store',
  connections: 2,
  statementTimeoutMs: 0,
  prepare: true,
  plan: 'byIdentity' as const,
  onError: () => {},
}

/** A store with the role of the API. `before` runs before each statement is sent. */
function openStore(
  t: Test,
  { before, connections = 2 }: { before?: (statement: string) => Promise<unknown>; connections?: number } = {},
) {
  const api =
    before === undefined ? connect({ url: apiUrl, ...SETTINGS, connections }) : connectWith(before, connections)
  t.teardown(() => api.destroy())
  return {
    api,
    store: createRecordStore(api),
    async ids() {
      const { rows } = await sql<{ id: string }>`SELECT id FROM sluice.records ORDER BY id`.execute(root)
      return rows.map(({ id }) => id)
    },
  }
}

/** A pool that calls `before` with each statement before it is sent. */
function connectWith(before: (statement: string) => Promise<unknown>, connections: number): Database {
  const pool = new pg.Pool({ connectionString: apiUrl, application_name: SETTINGS.name, max: connections })
  pool.on('error', () => {}).on('connect', (client) => client.on('error', () => {}))
  const connectClient = async () => {
    const client = await pool.connect()
    const query = async (text: string, values: unknown[]) => {
      await before(text)
      return client.query(text, values)
    }
    return { query, release: (destroy?: boolean) => client.release(destroy) } as unknown as PostgresPoolClient
  }
  return new Kysely<Tables>({
    dialect: new PostgresDialect({ pool: { connect: connectClient, end: () => pool.end() } as never }),
  })
}

/** Blocks writers of the table until `release`. */
async function lockRecords() {
  const trx = await root.startTransaction().execute()
  await sql`LOCK TABLE sluice.records IN SHARE MODE`.execute(trx)
  return {
    async whenWaitedFor() {
      await untilBlocked(trx, 'sluice.records')
    },
    release: () => trx.rollback().execute(),
  }
}

/** Adds a constraint that is checked at the commit and rejects rows of this type. */
async function rejectAtCommit(t: Test, type: string): Promise<void> {
  await sql
    .raw(`
      CREATE FUNCTION public.reject() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        RAISE EXCEPTION 'rejected' USING ERRCODE = 'check_violation';
      END $$;
      CREATE CONSTRAINT TRIGGER reject AFTER INSERT ON sluice.records DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.type = '${type}') EXECUTE FUNCTION public.reject()`)
    .execute(root)
  t.teardown(() => sql`DROP FUNCTION public.reject CASCADE`.execute(root))
}

/** The ids in the order of the feed. */
async function feed(): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`SELECT id FROM sluice.records ORDER BY epoch, xid, n`.execute(root)
  return rows.map(({ id }) => id)
}

function statuses(outcomes: RowOutcome[]): string[] {
  return outcomes.map(({ status }) => status)
}

function position(outcome: RowOutcome | undefined): Position {
  if (outcome === undefined || !('position' in outcome)) throw new Error('expected an outcome with a position')
  return outcome.position
}

async function failureOf(writing: Promise<RowOutcome[]>): Promise<unknown> {
  return writing.then(
    (outcomes) => {
      throw new Error(`expected a failure, not ${JSON.stringify(outcomes)}`)
    },
    (error) => error,
  )
}

/** Retries like the writer: after a deadlock, or after a broken connection, which the pool may lend once more. */
async function writeWithRetries(store: RecordStore, rows: Row[]): Promise<RowOutcome[]> {
  const base = store.newBase()
  for (;;) {
    try {
      return await store.write(rows, base)
    } catch (error) {
      if (classifyFailure(error).kind !== 'transient') throw error
    }
  }
}
