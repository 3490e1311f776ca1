import { Kysely, PostgresDialect, type PostgresPoolClient, sql } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import { connect } from '../../src/data/connect.ts'
import { SLOTS_PER_FLUSH } from '../../src/data/insert-records.ts'
import { createRecordStore, type RecordStore, type RowOutcome } from '../../src/data/record-store.ts'
import type { Row } from '../../src/data/row.ts'
import type { Database, Tables } from '../../src/data/schema.ts'
import { selectRecord } from '../../src/data/select-records.ts'
import { classifyFailure } from '../../src/data/sqlstate.ts'
import type { Position } from '../../src/lib/cursor.ts'
import { toRfc3339 } from '../../src/lib/pg-time.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { waitsFor } from '../helpers/locks.ts'
import { sqlError } from '../helpers/memory-store.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { makeRow } from '../helpers/rows.ts'
import { until } from '../helpers/until.ts'

const { apiUrl, superUrl } = await createDatabase(t)
// Two: one may hold a lock.
const root = connectAs(superUrl, 2)
t.teardown(() => root.destroy())

t.beforeEach(() => sql`TRUNCATE sluice.records, sluice.epochs`.execute(root))

// — one outcome a row —

t.test('a new identity is created', async (t) => {
  const { store, ids } = openStore(t)
  const [outcome] = await store.write([makeRow()], store.newBase())
  t.match(outcome, { status: 'created', position: { epoch: 1, xid: /^\d+$/ } })
  t.same(await ids(), ['1'])
})

t.test(
  'a stored identity with the same content is a duplicate, with other content a conflict; the stored one stands',
  async (t) => {
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
      { time: null },
      { dataschema: 'https://example.com/' },
      { datacontenttype: 'application/json' },
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
  },
)

t.test(
  'content is compared by its meaning: the order of keys and white space do not count, nor how a number is written',
  async (t) => {
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
  },
)

t.test('bytes are compared too', async (t) => {
  const { store } = openStore(t)
  const write = async (dataBase64: string) =>
    statuses(await store.write([makeRow({ data: null, dataBase64 })], store.newBase()))
  t.same(await write('AAH/'), ['created'])
  t.same(await write('AAH/'), ['duplicate'])
  t.same(await write('AAH+'), ['conflict'])
  t.same(await write(''), ['conflict'])
})

t.test('numbers that a double cannot tell apart are different content', async (t) => {
  const { store } = openStore(t)
  await store.write([makeRow({ data: '{"n":12345678901234567890}' })], store.newBase())
  const again = (data: string) => store.write([makeRow({ data })], store.newBase())
  t.same(statuses(await again('{"n":12345678901234567891}')), ['conflict'])
  t.same(statuses(await again('{"n":12345678901234567890}')), ['duplicate'])
})

// A client's time after a record without one was `duplicate`, and so was none after one: the later content was lost.
t.test(
  'a time where none is stored is a conflict, unless it is the time of receipt, and so is none after one',
  async (t) => {
    const { store, api } = openStore(t)
    const time = '2026-01-02T03:04:05Z'
    await store.write([makeRow({ id: 'without' }), makeRow({ id: 'with', time })], store.newBase())
    const receivedAt = toRfc3339((await selectRecord(api, 'shop', 'without'))?.received_at as string)
    const again = [
      makeRow({ id: 'without' }),
      makeRow({ id: 'without', time }),
      // As an export has it.
      makeRow({ id: 'without', time: receivedAt }),
      makeRow({ id: 'with', time }),
      makeRow({ id: 'with' }),
    ]
    const expected = ['duplicate', 'conflict', 'duplicate', 'duplicate', 'conflict']
    t.same(statuses(await store.write(again, store.newBase())), expected)
  },
)

// jsonb keeps the last value of a repeated key: texts that differ in the others were the same.
t.test('a payload that repeats a key is compared as text, at any depth and however the key is written', async (t) => {
  const { store } = openStore(t)
  let id = 0
  const outcome = async (stored: string, sent: string) => {
    id++
    await store.write([makeRow({ id: String(id), data: stored })], store.newBase())
    return statuses(await store.write([makeRow({ id: String(id), data: sent })], store.newBase()))[0]
  }
  const twice = '{"a":1,"a":2}'
  t.equal(await outcome(twice, '{"a":3,"a":2}'), 'conflict')
  t.equal(await outcome(twice, '{"a":2}'), 'conflict')
  t.equal(await outcome('{"a":2}', twice), 'conflict')
  t.equal(await outcome('[{"b":{"a":1,"a":2}}]', '[{"b":{"a":3,"a":2}}]'), 'conflict')
  t.equal(await outcome('{"a":1,"\\u0061":2}', '{"a":3,"a":2}'), 'conflict')
  t.equal(await outcome(twice, twice), 'duplicate')
  t.equal(await outcome('[{"a":1},{"a":2}]', '[{"a":1}, {"a":2}]'), 'duplicate', 'one key in two objects')
})

// The comparison failed after the INSERT was committed: the flush was split, and its new rows were told duplicate.
t.test('a stored payload that jsonb cannot hold is another content, and does its neighbours no harm', async (t) => {
  const { store } = openStore(t)
  // By somebody who is not this program.
  await sql`INSERT INTO sluice.records (epoch, n, source, id, type, data)
    VALUES (sluice.current_epoch(), 0, 'shop', 'odd', 'order.placed', ${'{"a":"\\u0000"}'})`.execute(root)
  const rows = [makeRow({ id: 'new' }), makeRow({ id: 'odd', data: '{"a":1}' })]
  t.same(statuses(await store.write(rows, store.newBase())), ['created', 'conflict'])
})

t.test('the trace is not compared: a header may have put it there, and each try has its own', async (t) => {
  const { store } = openStore(t)
  await store.write([makeRow({ extensions: '{"traceparent":"a"}' })], store.newBase())
  const again = [
    makeRow({ extensions: '{"traceparent":"b","tracestate":"c"}' }),
    makeRow(),
    makeRow({ extensions: '{"traceparent":"a","other":1}' }),
  ]
  t.same(statuses(await store.write(again, store.newBase())), ['duplicate', 'duplicate', 'conflict'])
})

t.test('an identity is the pair: the same id from another source is another record', async (t) => {
  const { store } = openStore(t)
  const rows = [
    makeRow({ source: 'a', id: 'bc' }),
    makeRow({ source: 'ab', id: 'c' }),
    makeRow({ source: 'a', id: 'BC' }),
  ]
  t.same(statuses(await store.write(rows, store.newBase())), ['created', 'created', 'created'])
})

t.test('an identity twice in one call: the first makes it, the other is compared with it', async (t) => {
  const { store, ids } = openStore(t)
  const rows = [makeRow(), makeRow({ id: '2' }), makeRow(), makeRow({ type: 'other' }), makeRow({ id: '2' })]
  const outcomes = await store.write(rows, store.newBase())
  t.same(statuses(outcomes), ['created', 'created', 'duplicate', 'conflict', 'duplicate'])
  t.same(position(outcomes[2]), position(outcomes[0]))
  t.same(position(outcomes[3]), position(outcomes[0]))
  t.same(await ids(), ['1', '2'])
})

t.test('the positions of a call are those of the rows, in their order', async (t) => {
  const { store, api } = openStore(t)
  const base = store.newBase()
  const outcomes = await store.write(
    ['a', 'b', 'c'].map((id) => makeRow({ id })),
    base,
  )
  for (const [place, id] of ['a', 'b', 'c'].entries()) {
    const stored = await selectRecord(api, 'shop', id)
    t.same(position(outcomes[place]), { epoch: stored?.epoch, xid: stored?.xid, n: Number(stored?.n) })
    t.equal(position(outcomes[place]).n, base.first + place)
  }
})

t.test('bases leave room for the largest flush, and stay whole numbers of a double', async (t) => {
  const { store } = openStore(t)
  const bases = Array.from({ length: 1000 }, () => store.newBase().first)
  t.ok(bases.every((first) => first % SLOTS_PER_FLUSH === 0 && Number.isSafeInteger(first + SLOTS_PER_FLUSH)))
})

t.test('two connections write the same identities in opposite order: one creates each, whoever is first', async (t) => {
  const { store, ids } = openStore(t)
  const rows = Array.from({ length: 50 }, (_, index) => makeRow({ id: `${index}` }))
  const [one, other] = await Promise.all([writeUntilItWorks(store, rows), writeUntilItWorks(store, rows.toReversed())])
  const created = [...statuses(one), ...statuses(other)].filter((status) => status === 'created')
  t.equal(created.length, 50)
  t.equal((await ids()).length, 50)
})

// — nothing changes on the way —

t.test(
  'every column is read back as it was sent: nulls, empty texts, emoji, and payloads to the last character',
  async (t) => {
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
  },
)

t.test('a call of more rows than a statement has parameters is stored', async (t) => {
  const { store } = openStore(t)
  const rows = Array.from({ length: 70_000 }, (_, index) => makeRow({ id: `${index}` }))
  const outcomes = await store.write(rows, store.newBase())
  t.ok(outcomes.every(({ status }) => status === 'created'))
})

// — sent again, because the answer was lost —

t.test(
  'a flush that is sent again under its base is told created once more, by the position of its first try',
  async (t) => {
    const { store, ids } = openStore(t)
    const rows = [makeRow(), makeRow({ id: '2' }), makeRow()]
    const base = store.newBase()
    const first = await store.write(rows, base)
    t.same(await store.write(rows, base), first)
    t.same(statuses(await store.write(rows, store.newBase())), ['duplicate', 'duplicate', 'duplicate'], 'another flush')
    t.same(await ids(), ['1', '2'])
  },
)

t.test('a flush that is sent again tells what it made from what was there', async (t) => {
  const { store } = openStore(t)
  await store.write([makeRow({ id: 'old' }), makeRow({ id: 'other', type: 'other' })], store.newBase())
  const rows = ['new', 'old', 'other', 'newer'].map((id) => makeRow({ id }))
  const base = store.newBase()
  for (let tries = 0; tries < 2; tries++) {
    t.same(statuses(await store.write(rows, base)), ['created', 'duplicate', 'conflict', 'created'])
  }
})

t.test('a flush without some of its rows, since their time was up, still recognises the others', async (t) => {
  const { store } = openStore(t)
  const rows = ['a', 'b', 'c'].map((id) => makeRow({ id }))
  const base = store.newBase()
  await store.write(rows, base)
  t.same(statuses(await store.write(rows.slice(1), base)), ['created', 'created'])
})

// Two requests shared a flush; the first one's time was up before it was sent again. The second was told `created` for a
// record that is stored with the other's content.
t.test(
  'a row of a flush that is sent again is not told created for what another of its rows, now gone, has stored',
  async (t) => {
    const { store, api } = openStore(t)
    const [gone, rest] = [makeRow({ data: '1' }), makeRow({ data: '2' })]
    const base = store.newBase()
    await store.write([gone, rest], base)
    t.same(statuses(await store.write([rest, gone], base)), ['conflict', 'created'])
    t.match(await selectRecord(api, 'shop', '1'), { data: '1' })
  },
)

// Where the second try found fault with a row that the first had passed over, the flush was split, its pieces were
// written as flushes of their own, and what the first try had created was told as duplicate.
t.test(
  'a flush that is sent again meets the same faults as the first time, whatever was written between',
  async (t) => {
    const { store } = openStore(t)
    const known = ['1', '2'].map((id) => makeRow({ id }))
    const told = (writing: Promise<RowOutcome[]>) => writing.then(statuses, classifyFailure)
    await store.write(known, store.newBase())
    for (const between of [known, ['3', '4'].map((id) => makeRow({ id }))]) {
      await store.write(known, store.newBase())
      const base = store.newBase()
      const rows = [makeRow({ id: '1', type: '' }), makeRow({ id: `new ${between.length} ${between[0]?.id}` })]
      const first = await told(store.write(rows, base))
      await store.write(between, store.newBase())
      t.same(await told(store.write(rows, base)), first)
    }
  },
)

t.test('a strict write whose COMMIT was answered by nobody is told created when it is sent again', async (t) => {
  const { store } = openStore(t)
  const rows = [makeRow(), makeRow({ id: '2' })]
  const base = store.newBase()
  const first = await store.writeStrict(rows, base)
  t.same(await store.writeStrict(rows, base), first)
})

t.test('a strict write that was committed unseen is told so, whatever became of its rows since', async (t) => {
  const { store } = openStore(t)
  const rows = [makeRow(), makeRow({ id: '2' }), makeRow({ id: '3' })]
  const base = store.newBase()
  const first = await store.writeStrict(rows, base)
  await sql`DELETE FROM sluice.records WHERE id IN ('2', '3')`.execute(root)
  await store.write([makeRow({ id: '2', type: 'of somebody else' })], store.newBase())
  t.same(await store.writeStrict(rows, base), first)
})

// — strict —

t.test('a strict write without fault commits all', async (t) => {
  const { store, ids } = openStore(t)
  await store.write([makeRow()], store.newBase())
  const rows = [makeRow(), makeRow({ id: '2' }), makeRow({ id: '2' })]
  t.same(statuses(await store.writeStrict(rows, store.newBase())), ['duplicate', 'created', 'duplicate'])
  t.same(await ids(), ['1', '2'])
})

t.test('a conflict undoes a strict write, and says which row', async (t) => {
  const { store, ids } = openStore(t)
  await store.write([makeRow()], store.newBase())
  const rows = [makeRow({ id: '2' }), makeRow({ type: 'other' }), makeRow({ id: '3' })]
  t.same(statuses(await store.writeStrict(rows, store.newBase())), ['created', 'conflict', 'created'])
  t.same(await ids(), ['1'])
})

t.test('a conflict within a strict write undoes it', async (t) => {
  const { store, ids } = openStore(t)
  const rows = [makeRow(), makeRow({ type: 'other' })]
  t.same(statuses(await store.writeStrict(rows, store.newBase())), ['created', 'conflict'])
  t.same(await ids(), [])
})

t.test(
  'refused rows undo a strict write; all of them are found, and the other rows are told apart from them',
  async (t) => {
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
      outcomes.map((outcome) => (outcome.status === 'refused' ? outcome.sqlstate : outcome.status)),
      ['created', '22P02', 'duplicate', '23514', 'conflict', '22P02', 'created'],
    )
    t.same(await ids(), ['old', 'other'])
  },
)

// The row looks fine by itself, behind a savepoint, and is refused at the commit. To go by the savepoints alone was to
// answer 201 for a batch of which nothing was stored.
t.test('a row that is refused only at the commit undoes a strict write, and is found', async (t) => {
  const { store, ids } = openStore(t)
  await refuseAtCommit(t, 'late')
  const rows = [makeRow(), makeRow({ id: '2', type: 'late' }), makeRow({ id: '3' })]
  t.same(
    (await store.writeStrict(rows, store.newBase())).map((outcome) =>
      outcome.status === 'refused' ? outcome.sqlstate : outcome.status,
    ),
    ['created', '23514', 'created'],
  )
  t.same(await ids(), [])
})

// The INSERT commits by itself. What was told of the comparison that failed, "rolled back", was told of all.
t.test(
  'a comparison fails after its INSERT was committed: the failure says so, and the next try is exact',
  async (t) => {
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
  },
)

t.test('a comparison fails and its INSERT stored nothing: nothing was written', async (t) => {
  const { store } = openStore(t, {
    before: async (statement) => {
      if (statement.includes('pg_logical_emit_message')) throw sqlError('55P03')
    },
  })
  const rows = [makeRow({ id: 'taken' })]
  await store.write(rows, store.newBase())
  t.match(classifyFailure(await failureOf(store.write(rows, store.newBase()))), { kind: 'transient', written: 'no' })
})

t.test('a strict write that failed for rows of which none is found is a defect, never a success', async (t) => {
  const { store, ids } = openStore(t, { before: removeFault })
  await sql`ALTER TABLE sluice.records ADD CONSTRAINT passing CHECK (type <> 'passing')`.execute(root)
  // The fault is gone by the time it is looked for.
  async function removeFault(statement: string) {
    if (statement.startsWith('savepoint'))
      await sql`ALTER TABLE sluice.records DROP CONSTRAINT IF EXISTS passing`.execute(root)
  }
  const failure = await failureOf(store.writeStrict([makeRow({ type: 'passing' })], store.newBase()))
  t.match(classifyFailure(failure), { kind: 'row', written: 'no' })
  t.same(await ids(), [])
})

t.test(
  'the connection breaks while refused rows are looked for: it is told as such, and its place in the pool is free again',
  async (t) => {
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
  },
)

t.test("a deadlock while refused rows are looked for is no row's fault", async (t) => {
  let searching = false
  const { store, ids } = openStore(t, {
    async before(statement) {
      searching ||= statement.startsWith('savepoint')
      if (searching && statement.includes('INSERT')) throw sqlError('40P01')
    },
  })
  const failure = await failureOf(store.writeStrict([makeRow({ data: '{' })], store.newBase()))
  t.match(classifyFailure(failure), { kind: 'transient', written: 'no' })
  t.same(await ids(), [])
})

// — faults —

t.test('a write with a row at fault fails as a whole and stores nothing', async (t) => {
  const { store, ids } = openStore(t)
  for (const fault of [{ data: '{' }, { type: '' }, { extensions: '[' }, { dataBase64: 'AA==' }, { source: '' }]) {
    const failure = await failureOf(store.write([makeRow(), makeRow({ id: '2', ...fault })], store.newBase()))
    t.match(classifyFailure(failure), { kind: 'row', written: 'no' }, JSON.stringify(fault))
  }
  t.same(await ids(), [])
})

t.test('a killed backend is told as a broken connection, and the next write is served', async (t) => {
  const { store, ids } = openStore(t)
  const lock = await lockRecords()
  const writing = failureOf(store.write([makeRow()], store.newBase()))
  await lock.whenWaitedFor()
  await sql`
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'record-store' AND datname = current_database()`.execute(root)
  t.match(classifyFailure(await writing), { kind: 'transient', written: 'unknown' })
  await lock.release()
  t.same(statuses(await writeUntilItWorks(store, [makeRow()])), ['created'])
  t.same(await ids(), ['1'])
})

t.test('no server: it is told that nothing was sent', async (t) => {
  const api = connect({ url: 'postgres://sluice_api@127.0.0.1:1/none', ...SETTINGS })
  t.teardown(() => api.destroy())
  const failure = await failureOf(createRecordStore(api).write([makeRow()], { first: 0, compareFirst: false }))
  t.match(classifyFailure(failure), { kind: 'transient', written: 'no' })
})

// — retention —

for (const verb of ['write', 'writeStrict'] as const) {
  t.test(
    `${verb}: a row that retention removes between the insert and the comparison leaves its identity free: it is stored`,
    async (t) => {
      let removed = false
      const { store, ids, api } = openStore(t, {
        // The rows are compared because one of them was there; that one goes before the comparison.
        async before(statement) {
          if (removed || !statement.includes('AS same')) return
          removed = true
          await sql`DELETE FROM sluice.records WHERE id = 'old'`.execute(root)
        },
      })
      await store.write([makeRow({ id: 'old' })], store.newBase())
      const base = store.newBase()
      const outcomes = await store[verb](
        [makeRow({ id: 'new' }), makeRow({ id: 'old', data: '2' }), makeRow({ id: 'newer' })],
        base,
      )
      t.ok(removed)
      t.same(statuses(outcomes), ['created', 'created', 'created'])
      t.same(await ids(), ['new', 'newer', 'old'])
      const stored = await selectRecord(api, 'shop', 'old')
      t.match(stored, { data: '2', n: String(position(outcomes[1]).n) })
      t.ok(
        position(outcomes[1]).n >= base.first && position(outcomes[1]).n < base.first + SLOTS_PER_FLUSH,
        'sent again, it would be known',
      )
    },
  )
}

// — the place in the feed —

t.test(
  'a database that was restored into another cluster begins an epoch, and what is written then sorts after all before',
  async (t) => {
    const { store } = openStore(t)
    const [before] = await store.write([makeRow({ id: 'before' })], store.newBase())
    // The other cluster's transaction ids were far ahead of ours, as after a dump of an old server.
    await sql`UPDATE sluice.records SET xid = '1152921504606846976'`.execute(root)
    await sql`UPDATE sluice.epochs SET system_identifier = 1`.execute(root)
    const [after] = await store.write([makeRow({ id: 'after' })], store.newBase())
    const [later] = await store.write([makeRow({ id: 'later' })], store.newBase())

    const [old, epoch, same] = [before, after, later].map((outcome) => position(outcome).epoch)
    t.equal(old, 1)
    t.ok((epoch as number) > 1)
    t.equal(same, epoch)
    t.same(await feed(), ['before', 'after', 'later'])
  },
)

t.test('a database that was restored to an earlier point begins an epoch: its timeline is new', async (t) => {
  const { store } = openStore(t)
  await store.write([makeRow({ id: 'before' })], store.newBase())
  await sql`UPDATE sluice.epochs SET timeline = timeline + 1`.execute(root)
  const [after] = await store.write([makeRow({ id: 'after' })], store.newBase())
  t.ok(position(after).epoch > 1)
  t.same(await feed(), ['before', 'after'])
})

// Its number was one more than the latest known, and a life that ended without a backup is not known: the next restore of
// the same backup began an epoch of the same number, whose first records sorted before what consumers had read in the lost.
t.test('a life of the database that was lost without a trace does not share its epoch with the next', async (t) => {
  const { store } = openStore(t)
  await store.write([makeRow({ id: 'before' })], store.newBase())
  await sql`UPDATE sluice.epochs SET system_identifier = 1`.execute(root)
  const [lost] = await store.write([makeRow({ id: 'lost' })], store.newBase())
  const secondOfLost = position(lost).epoch
  await sql`DELETE FROM sluice.epochs WHERE epoch > 1`.execute(root)
  await sql`DELETE FROM sluice.records WHERE id = 'lost'`.execute(root)
  await until('the next second', async () => {
    const { rows } = await sql<{ later: boolean }>`
      SELECT extract(epoch FROM now() - '2025-01-01 00:00:00+00'::timestamptz) > ${secondOfLost}::integer + 1 AS later`.execute(
      root,
    )
    return rows[0]?.later
  })
  const [after] = await store.write([makeRow({ id: 'after' })], store.newBase())
  t.ok(position(after).epoch > position(lost).epoch)
})

t.test('several writers notice a new life of the database at once: they agree on one epoch', async (t) => {
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

t.test('a duplicate from an earlier epoch is told with its position there', async (t) => {
  const { store } = openStore(t)
  const [before] = await store.write([makeRow()], store.newBase())
  await sql`UPDATE sluice.epochs SET system_identifier = 1`.execute(root)
  t.same(await store.write([makeRow()], store.newBase()), [{ ...before, status: 'duplicate' }])
})

// — helpers —

const SETTINGS = { name: 'record-store', connections: 2, statementTimeoutMs: 0, prepare: true, onError: () => {} }

/** The store as the API has it. `before` runs before each statement is sent. */
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

/** Connections on which something happens before each statement is sent. */
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

/** Keeps writers out of the table until it is released. */
async function lockRecords() {
  const trx = await root.startTransaction().execute()
  await sql`LOCK TABLE sluice.records IN SHARE MODE`.execute(trx)
  return {
    async whenWaitedFor() {
      await waitsFor(trx, 'sluice.records')
    },
    release: () => trx.rollback().execute(),
  }
}

/** Rows of this type are refused by a constraint that is looked at when the transaction commits. */
async function refuseAtCommit(t: Test, type: string): Promise<void> {
  await sql
    .raw(`
      CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        RAISE EXCEPTION 'refused' USING ERRCODE = 'check_violation';
      END $$;
      CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON sluice.records DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.type = '${type}') EXECUTE FUNCTION public.refuse()`)
    .execute(root)
  t.teardown(() => sql`DROP FUNCTION public.refuse CASCADE`.execute(root))
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
  if (outcome === undefined || !('position' in outcome)) throw new Error('an outcome with a position was expected')
  return outcome.position
}

async function failureOf(writing: Promise<RowOutcome[]>): Promise<unknown> {
  return writing.then(
    (outcomes) => {
      throw new Error(`a failure was expected, not ${JSON.stringify(outcomes)}`)
    },
    (error) => error,
  )
}

/** As the writer does: a deadlock is rolled back, a broken connection may be handed out once more before its end is seen. */
async function writeUntilItWorks(store: RecordStore, rows: Row[]): Promise<RowOutcome[]> {
  const base = store.newBase()
  for (;;) {
    try {
      return await store.write(rows, base)
    } catch (error) {
      if (classifyFailure(error).kind !== 'transient') throw error
    }
  }
}
