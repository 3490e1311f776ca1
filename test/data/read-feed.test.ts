import fc from 'fast-check'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { type FeedRequest, hasPosition, readFeed, START, selectHead } from '../../src/data/read-feed.ts'
import { type FeedFilter, toFilter } from '../../src/feed/feed-filter.ts'
import { toFeedRecords } from '../../src/feed/feed-record.ts'
import { encodeOffset, type Position } from '../../src/lib/offset.ts'
import { connect } from '../../src/postgres/connect.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'

const { apiUrl, superUrl } = await createDatabase(t)
// Three connections: two may hold a transaction open.
const root = connectAs(superUrl, 3)
const db = connect({ url: apiUrl, name: 'read-feed', connections: 2, statementTimeoutMs: 60_000, onError: () => {} })
t.teardown(() => Promise.all([root.destroy(), db.destroy()]))
const { signal } = new AbortController()

t.beforeEach(async () => {
  await sql`TRUNCATE sluice.records, sluice.epochs`.execute(root)
  await sql`SELECT sluice.current_epoch()`.execute(root)
})

const ALL = { allowedPrefixes: [] }
const MANY = { limit: 1000, maxBytes: 2 ** 30 }
/** The number of records that a statement examines for a filter. */
const EXAMINED = 10_000

/** Reads a page. By default, everything from the start. */
async function read(request: Partial<FeedRequest> = {}) {
  const page = await readFeed(db, { filter: ALL, after: START, ...MANY, ...request }, signal)
  const records = toFeedRecords(page.lines)
  return { ...page, records, ids: records.map(idOf) }
}

const idOf = ({ line }: { line: string }): string => JSON.parse(line).id

/** Reads page after page to the head. */
async function readAll(request: Partial<FeedRequest> = {}) {
  const ids: string[] = []
  let pages = 0
  for (let after = request.after ?? START; ; ) {
    const page = await read({ ...request, after })
    pages++
    ids.push(...page.ids)
    if (page.upToDate) return { ids, pages, next: page.next }
    if (encodeOffset(page.next) <= encodeOffset(after)) throw new Error('a page made no progress')
    after = page.next
  }
}

/**
 * Stores records with ids from 1, ten for each transaction id up to 100. These ids are so low that no running transaction, here or in another
 * database of the server, holds the records back.
 */
const fill = (count: number, { type = 't', data = 'null' } = {}) =>
  sql`
    INSERT INTO sluice.records (epoch, xid, n, source, id, type, data)
    SELECT (SELECT max(epoch) FROM sluice.epochs), least((n - 1) / 10 + 1, 100)::text::xid8, n, 's', n, ${type}, ${data}::json
    FROM generate_series(1, ${count}::integer) AS n`.execute(root)

const idsFrom = (first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, index) => String(first + index))

// — pages —

t.test('an empty database has its head at the start, and a page without records', async (t) => {
  t.same(await selectHead(db, signal), START)
  t.match(await read(), { ids: { length: 0 }, next: START, upToDate: true })
  await sql`TRUNCATE sluice.epochs`.execute(root)
  t.same(await selectHead(db, signal), START, 'before the first epoch')
  t.match(await read({ filter: { ...ALL, source: 's' } }), { ids: { length: 0 }, next: START, upToDate: true })
})

t.test('pages follow one another in feed order, and only the last one ends at the head', async (t) => {
  await fill(25)
  const head = await selectHead(db, signal)
  const first = await read({ limit: 10 })
  t.match(first, { ids: idsFrom(1, 10), next: { xid: '1', n: 10 }, upToDate: false })
  const second = await read({ limit: 10, after: first.next })
  t.match(second, { ids: idsFrom(11, 20), upToDate: false })
  const last = await read({ limit: 10, after: second.next })
  t.match(last, { ids: idsFrom(21, 25), next: head, upToDate: true })
  t.match(await read({ after: last.next }), { ids: { length: 0 }, next: head, upToDate: true })
})

t.test('a page that ends exactly at the head is up to date', async (t) => {
  await fill(10)
  t.match(await read({ limit: 10 }), { ids: idsFrom(1, 10), next: { n: 10 }, upToDate: true })
  t.match(await read({ limit: 9 }), { next: { n: 9 }, upToDate: false })
})

t.test('transaction ids are compared as numbers, and an earlier epoch comes first', async (t) => {
  await sql`
    INSERT INTO sluice.records (epoch, xid, n, source, id, type)
    SELECT max(epoch) - before, xid::xid8, n, 's', id, 't'
    FROM sluice.epochs, (VALUES (0, '10', 0, 'c'), (0, '9', 10, 'b'), (1, '99', 0, 'a'), (0, '10', 9, 'd'))
      AS given (before, xid, n, id)
    GROUP BY before, xid, n, id`.execute(root)
  t.same((await readAll({ limit: 1 })).ids, ['a', 'b', 'c', 'd'])
})

t.test('a page ends before a record with which it would exceed its size', async (t) => {
  await fill(10, { data: JSON.stringify('x'.repeat(10_000)) })
  const page = await read({ maxBytes: 35_000 })
  t.match(page, { ids: ['1', '2', '3'], upToDate: false })
  t.same((await readAll({ maxBytes: 35_000 })).ids, idsFrom(1, 10))
})

t.test('a record that is larger than a page has a page of its own', async (t) => {
  await fill(3, { data: JSON.stringify('x'.repeat(2_000_000)) })
  t.match(await read({ maxBytes: 1000 }), { ids: ['1'], upToDate: false })
  t.match(await readAll({ maxBytes: 1000 }), { ids: ['1', '2', '3'], pages: 3 })
})

// Each page fetched up to a thousand of them to measure them.
t.test('payloads that follow a page are not fetched', async (t) => {
  await sql`
    INSERT INTO sluice.records (epoch, xid, n, source, id, type, data)
    SELECT (SELECT max(epoch) FROM sluice.epochs), '5', n, 's', n, 't',
           (SELECT to_json(string_agg(md5((n * 1000 + part)::text), '')) FROM generate_series(1, 600) AS part)
    FROM generate_series(1, 200) AS n`.execute(root)
  const fetched = async () => {
    await sql`SELECT pg_stat_force_next_flush()`.execute(db)
    const { rows } = await sql<{ blocks: number }>`
      SELECT (toast_blks_read + toast_blks_hit)::integer AS blocks FROM pg_statio_user_tables WHERE relname = 'records'`.execute(
      root,
    )
    return rows[0]?.blocks as number
  }
  const before = await fetched()
  t.equal((await read({ maxBytes: 100_000 })).ids.length, 5)
  const page = (await fetched()) - before
  await read()
  const all = (await fetched()) - before - page
  t.ok(page > 0 && page < all / 10, `${page} blocks for 5 records, ${all} for 200`)
})

t.test('a reader that has left ends the statement, and the connection can be used again', async (t) => {
  await fill(1000)
  const left = AbortSignal.abort(new Error('left'))
  await t.rejects(readFeed(db, { filter: ALL, after: START, ...MANY }, left), { message: 'left' })
  await t.rejects(selectHead(db, left), { message: 'left' })
  t.equal((await read()).ids.length, 1000)
})

// — transactions —

/** Reads until the page satisfies the condition. A transaction of another database may hold the head back for an instant. */
const readUntil = (what: string, request: Partial<FeedRequest>, isExpected: (ids: string[]) => boolean) =>
  until(what, async () => {
    const page = await read(request)
    return isExpected(page.ids) && page
  })

const store = (id: string, into = root) =>
  sql`
    INSERT INTO sluice.records (epoch, n, source, id, type)
    SELECT max(epoch), 0, 's', ${id}, 't' FROM sluice.epochs`.execute(into)

for (const ending of ['commit', 'rollback'] as const) {
  t.test(`an open transaction holds the feed back until its ${ending}, and nothing is skipped`, async (t) => {
    await store('before')
    const open = await root.startTransaction().execute()
    t.teardown(() => open.isCommitted || open.isRolledBack || open.rollback().execute())
    await store('open', open)
    await store('after')
    const held = await readUntil('the record before', {}, (ids) => ids.length > 0)
    t.match(held, { ids: ['before'], upToDate: true })
    t.same(await selectHead(db, signal), held.next)
    // Other transactions begin and end meanwhile: the head stays where it is.
    for (let times = 0; times < 3; times++) await store(`more ${times}`)
    t.match(await read({ after: held.next }), { ids: { length: 0 }, next: held.next, upToDate: true })
    t.match(await read({ after: held.next, filter: { ...ALL, source: 's' } }), { ids: { length: 0 }, next: held.next })

    await open[ending]().execute()
    const expected = [...(ending === 'commit' ? ['open'] : []), 'after', 'more 0', 'more 1', 'more 2']
    const rest = await readUntil('the others', { after: held.next }, (ids) => ids.length === expected.length)
    t.same(rest.ids, expected)
    t.same(rest.next, await selectHead(db, signal))
  })
}

t.test('the oldest of several open transactions holds the feed back', async (t) => {
  const older = await root.startTransaction().execute()
  await store('older', older)
  await store('between')
  const newer = await root.startTransaction().execute()
  await store('newer', newer)
  // A snapshot lists only running transactions that are older than one that has ended.
  await store('last')
  t.match(await read(), { ids: { length: 0 }, next: START, upToDate: true })
  await newer.commit().execute()
  t.match(await read(), { ids: { length: 0 }, next: START, upToDate: true })
  await older.commit().execute()
  const page = await readUntil('all four', {}, (ids) => ids.length === 4)
  t.same(page.ids, ['older', 'between', 'newer', 'last'])
})

t.test('an open transaction that has not written anything does not hold the feed back', async (t) => {
  const open = await root.startTransaction().setIsolationLevel('repeatable read').execute()
  t.teardown(() => open.rollback().execute())
  await sql`SELECT FROM sluice.records`.execute(open)
  await store('after')
  await readUntil('the record', {}, (ids) => ids[0] === 'after')
})

// — the head —

t.test('if retention has deleted the newest records, a reader stays where it is', async (t) => {
  await fill(20)
  const { next } = await read()
  await sql`DELETE FROM sluice.records WHERE n > 15`.execute(root)
  t.match(await selectHead(db, signal), { n: 15 })
  for (const filter of [ALL, { ...ALL, types: ['none'] }])
    t.match(await read({ after: next, filter }), { ids: { length: 0 }, next, upToDate: true })
  await sql`DELETE FROM sluice.records`.execute(root)
  t.match(await read({ after: next }), { ids: { length: 0 }, next, upToDate: true }, 'even if it has deleted all')
  await store('new')
  const page = await readUntil('the new record', { after: next }, (ids) => ids.length > 0)
  t.same(page.ids, ['new'])
})

t.test('a reader at the head whose filter matches nothing moves on with the head', async (t) => {
  await fill(20)
  const page = await read({ filter: { ...ALL, source: 'none' }, after: { ...START, n: 3 } })
  t.match(page, { ids: { length: 0 }, next: { n: 20 }, upToDate: true })
})

t.test(
  'a position is known if a record is there, also one that the head has not reached; so is the start',
  async (t) => {
    await fill(20)
    const has = (position: Position) => hasPosition(db, position, signal)
    const head = await selectHead(db, signal)
    t.match(head, { xid: '2', n: 20 })
    t.equal(await has(head), true)
    t.equal(await has({ ...head, n: 21 }), false)
    t.equal(await has({ ...head, xid: '3' }), false)
    t.equal(await has({ ...head, epoch: head.epoch + 1 }), false)
    t.equal(await has(START), true)
    await sql`DELETE FROM sluice.records`.execute(root)
    t.equal(await has(head), false, 'its record was deleted')
    t.equal(await has(START), true, 'in an empty database')
    await t.rejects(hasPosition(db, head, AbortSignal.abort(new Error('left'))), { message: 'left' })
  },
)

// — filters —

t.test(
  'a statement examines a bounded number of records, and a filter that matches none still makes progress',
  async (t) => {
    await fill(2 * EXAMINED + 500)
    const filter = { ...ALL, source: 'none' }
    const first = await read({ filter })
    t.match(first, { ids: { length: 0 }, next: { n: EXAMINED }, upToDate: false })
    const second = await read({ filter, after: first.next })
    t.match(second, { ids: { length: 0 }, next: { n: 2 * EXAMINED }, upToDate: false })
    t.match(await read({ filter, after: second.next }), {
      ids: { length: 0 },
      next: { n: 2 * EXAMINED + 500 },
      upToDate: true,
    })
  },
)

t.test('the bound on examined records loses no match on either side of it', async (t) => {
  await fill(2 * EXAMINED + 500)
  const rare = [1, EXAMINED - 1, EXAMINED, EXAMINED + 1, 2 * EXAMINED, 2 * EXAMINED + 1, 2 * EXAMINED + 500]
  await sql`UPDATE sluice.records SET type = 'rare' WHERE n = ANY (${rare}::bigint[])`.execute(root)
  const filter = { ...ALL, types: ['rare'] }
  for (const limit of [1, 2, 1000]) t.same((await readAll({ filter, limit })).ids, rare.map(String), `limit ${limit}`)
  for (const after of [1, EXAMINED - 1, EXAMINED, EXAMINED + 1]) {
    const { rows } = await sql<Position>`SELECT epoch, xid::text, n FROM sluice.records WHERE n = ${after}`.execute(
      root,
    )
    const { ids } = await readAll({ filter, after: { ...(rows[0] as Position), n: after } })
    t.same(ids, rare.filter((n) => n > after).map(String), `after ${after}`)
  }
})

const SOURCES = ['shop', 'shop/1', 'shop:eu', 'shopping', 'Shop', 'é', 'shop/../x', '🦀/1', 'a%']
const TYPES = ['order.placed', 'order', 'Order', 'é']
const SUBJECTS = [null, '', 'a', 'A', "o'clock"]

t.test('SQL and isMatch select the same records with each filter, and with all of them together', async (t) => {
  const rows = SOURCES.flatMap((source) =>
    TYPES.flatMap((type) => SUBJECTS.map((subject) => ({ source, type, subject }))),
  ).map((row, n) => ({ ...row, n }))
  await sql`
    INSERT INTO sluice.records (epoch, xid, n, source, id, type, subject)
    SELECT (SELECT max(epoch) FROM sluice.epochs), '5', n, source, n, type, subject
    FROM json_to_recordset(${JSON.stringify(rows)}) AS given (n bigint, source text, type text, subject text)`.execute(
    root,
  )
  const { records } = await read()
  t.equal(records.length, rows.length)

  const prefix = fc.constantFrom('s', 'shop', 'shop/', 'shop*', 'Shop', 'é', '🦀', '🦀/', 'a%', 'none')
  const perhaps = <T>(value: fc.Arbitrary<T>) =>
    fc.oneof({ weight: 2, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: value })
  const filters: fc.Arbitrary<FeedFilter['selection']> = fc.record({
    source: perhaps(fc.constantFrom(...SOURCES, 'none')),
    sourcePrefix: perhaps(prefix),
    types: perhaps(fc.uniqueArray(fc.constantFrom(...TYPES, 'none'), { maxLength: 3 })),
    subject: perhaps(fc.constantFrom('', 'a', 'A', "o'clock", 'none')),
    allowedPrefixes: fc.uniqueArray(prefix, { maxLength: 3 }),
  })
  let matched = 0
  await fc.assert(
    fc.asyncProperty(filters, fc.constantFrom(1, 7, 1000), async (filter, limit) => {
      const expected = records.filter(toFilter(filter).isMatch).map(idOf)
      matched += expected.length
      const found = await read({ filter, limit })
      if (JSON.stringify(found.ids) !== JSON.stringify(expected.slice(0, limit)))
        throw new Error(`${JSON.stringify(filter)}: ${expected}, and PostgreSQL: ${found.ids}`)
      if (found.upToDate !== expected.length <= limit) throw new Error(`up to date: ${found.upToDate}`)
    }),
    { numRuns: 300 },
  )
  t.ok(matched > 500, `${matched} records matched`)
})

t.test('each member of a filter alone excludes records', async (t: Test) => {
  await sql`
    INSERT INTO sluice.records (epoch, xid, n, source, id, type, subject)
    SELECT (SELECT max(epoch) FROM sluice.epochs), '5', n, source, n, type, subject
    FROM (VALUES (1, 'shop/1', 'a', 'x'), (2, 'shop/2', 'b', NULL), (3, 'bank', 'c', 'y')) AS given (n, source, type, subject)
  `.execute(root)
  for (const [filter, ids] of [
    [{ source: 'bank' }, ['3']],
    [{ sourcePrefix: 'shop' }, ['1', '2']],
    [{ types: ['a', 'c'] }, ['1', '3']],
    [{ types: [] }, []],
    [{ subject: 'x' }, ['1']],
    [{ allowedPrefixes: ['bank', 'shop/2'] }, ['2', '3']],
  ] as const) {
    const all = { ...ALL, ...filter }
    t.same((await read({ filter: all })).ids, ids, JSON.stringify(filter))
    const { records } = await read()
    t.equal(records.filter(toFilter(all).isMatch).length, ids.length, `isMatch: ${JSON.stringify(filter)}`)
  }
})
