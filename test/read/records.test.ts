import { sql } from 'kysely'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { createEmptyDatabase } from '../helpers/postgres.ts'
import { isProblem } from '../helpers/problem.ts'

const { post, get, database } = await createApp(t)

interface Read {
  id: string
  cursor: string
}

/** Stores records of one source, each in a request of its own, so that their order in the feed is known. */
async function store(source: string, ids: string[]): Promise<void> {
  for (const id of ids) await post({ source, type: 't', id })
}

/** Reads page after page to the end; `between` runs after each page. */
async function readAll(query: string, between: () => Promise<unknown> = async () => {}, after = ''): Promise<string[]> {
  const ids: string[] = []
  for (let next: string | null = after; next !== null; ) {
    const { json } = await get(`/v1/records?${query}${next === '' ? '' : `&cursor=${next}`}`)
    ids.push(...json.records.map(({ id }: Read) => id))
    next = json.next
    await between()
  }
  return ids
}

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, n) => String(from + n))

t.test('a list is newest first; with order=asc it is in the order of the feed', async (t) => {
  await store('order', ['1', '2', '3'])
  t.same(await readAll('source=order'), ['3', '2', '1'])
  t.same(await readAll('source=order&order=desc'), ['3', '2', '1'])
  t.same(await readAll('source=order&order=asc'), ['1', '2', '3'])
})

// They were in the order of their texts, 10 before 9. The cursor of such a page was not that of its furthest record, and the next
// page repeated records.
t.test('transactions are in the order of their numbers, even if these gain a digit', async (t) => {
  const db = connect(database.superUrl)
  t.teardown(() => db.destroy())
  const ids = ['9', '10', '99', '100', '101']
  await sql`
    INSERT INTO sluice.records (epoch, xid, n, source, id, type)
    SELECT sluice.current_epoch(), id::xid8, 0, 'digits', id, 't' FROM unnest(${ids}::text[]) AS id`.execute(db)
  for (const limit of [1, 2, 3, 4, 5]) {
    t.same(await readAll(`source=digits&order=asc&limit=${limit}`), ids, `limit ${limit}, upwards`)
    t.same(await readAll(`source=digits&limit=${limit}`), ids.toReversed(), `limit ${limit}, downwards`)
  }
})

t.test('the records of a batch keep their order', async (t) => {
  await post(numbers(1, 50).map((id) => ({ source: 'batch', type: 't', id })))
  t.same(await readAll('source=batch&order=asc&limit=7'), numbers(1, 50))
  t.same(await readAll('source=batch&limit=7'), numbers(1, 50).reverse())
})

t.test('pages follow one another without a gap or an overlap, and next is null on the last one', async (t) => {
  await store('pages', numbers(1, 6))
  for (const limit of [1, 2, 3, 5, 6, 7]) {
    t.same(await readAll(`source=pages&order=asc&limit=${limit}`), numbers(1, 6), `limit ${limit}, upwards`)
    t.same(await readAll(`source=pages&limit=${limit}`), numbers(1, 6).reverse(), `limit ${limit}, downwards`)
  }
  t.equal((await get('/v1/records?source=pages&limit=6')).json.next, null, 'even if the last page is full')
  t.same((await get('/v1/records?source=nobody')).json, { records: [], next: null })
})

t.test('records that arrive between pages do not disturb a list', async (t) => {
  const old = numbers(100, 119)
  await store('growing', old)
  let arrived = 0
  const arrive = () => store('growing', [String(200 + arrived++), String(200 + arrived++)])
  t.same(await readAll('source=growing&limit=6', arrive), old.toReversed(), 'downwards: the records from the start')
  t.ok(arrived > 4)

  const upwards = await readAll('source=growing&order=asc&limit=6', () => (arrived < 16 ? arrive() : Promise.resolve()))
  t.same(upwards, [...old, ...numbers(200, 215)], 'upwards: also the records that arrive, in order')
})

// A list upwards must not pass an open transaction: the records of that transaction would be behind the cursor.
t.test('a list upwards ends before an open transaction, and skips nothing', async (t) => {
  const db = connect(database.superUrl)
  t.teardown(() => db.destroy())
  await store('open', ['1'])
  const trx = await db.startTransaction().execute()
  await sql`INSERT INTO sluice.records (epoch, n, source, id, type) VALUES (sluice.current_epoch(), 0, 'open', '2', 't')`.execute(
    trx,
  )
  await post({ source: 'open', type: 't', id: '3' })
  const first = await get('/v1/records?source=open&order=asc')
  t.same(
    first.json.records.map(({ id }: Read) => id),
    ['1'],
    'not 3, which would move the cursor past 2',
  )
  const cursor = first.json.records[0].cursor
  await trx.commit().execute()
  t.same(await readAll(`source=open&order=asc`, undefined, cursor), ['2', '3'])
})

t.test('a transaction in another database of the server does not hold up lists or exports', async (t) => {
  const db = connect((await createEmptyDatabase(t)).superUrl)
  t.teardown(() => db.destroy())
  const trx = await db.startTransaction().execute()
  await sql`SELECT pg_current_xact_id()`.execute(trx)
  await store('elsewhere', ['1', '2'])
  t.same(await readAll('source=elsewhere&order=asc'), ['1', '2'])
  const { text } = await get('/v1/records?source=elsewhere&order=asc', { accept: 'application/x-ndjson' })
  t.equal(text.match(/"id"/g)?.length, 2, 'the export has both')
  await trx.rollback().execute()
})

t.test('a list can continue from the cursor of any record', async (t) => {
  await store('from', ['1', '2', '3'])
  const { cursor } = (await get('/v1/records/from/2')).json
  t.same(
    (await get(`/v1/records?source=from&cursor=${cursor}`)).json.records.map(({ id }: Read) => id),
    ['1'],
  )
  t.same(
    (await get(`/v1/records?source=from&order=asc&cursor=${cursor}`)).json.records.map(({ id }: Read) => id),
    ['3'],
  )
})

t.test('a cursor that was tampered with is refused', async (t) => {
  await store('tamper', ['1', '2'])
  const { next } = (await get('/v1/records?source=tamper&limit=1')).json
  const flipped = (at: number) => next.slice(0, at) + (next[at] === 'A' ? 'B' : 'A') + next.slice(at + 1)
  const cursors = ['x', '0', next.slice(1), next.slice(0, -1), `${next}A`, `${next}=`, ` ${next}`, `${next}%00`]
  for (let at = 0; at < next.length; at++) cursors.push(flipped(at))
  for (const cursor of cursors) {
    isProblem(t, await get(`/v1/records?source=tamper&limit=1&cursor=${cursor}`), 'invalid_offset', {
      name: cursor,
      errors: [{ pointer: 'cursor', code: 'invalid_offset' }],
    })
  }
})

t.test('limit is a number from 1 to 1000, and 100 by default', async (t) => {
  await post(numbers(1, 1002).map((id) => ({ source: 'limit', type: 't', id })))
  t.equal((await get('/v1/records?source=limit')).json.records.length, 100)
  t.equal((await get('/v1/records?source=limit&limit=1')).json.records.length, 1)
  t.equal((await get('/v1/records?source=limit&limit=1000')).json.records.length, 1000)
  for (const limit of [
    '0',
    '-1',
    '1001',
    '1.5',
    'ten',
    '',
    '1&limit=2',
    '9'.repeat(400),
    'Infinity',
    '-Infinity',
    'NaN',
  ]) {
    isProblem(t, await get(`/v1/records?source=limit&limit=${limit}`), 'invalid_query', {
      name: limit.slice(0, 9),
      errors: [{ pointer: 'limit', code: 'invalid_query' }],
    })
  }
})

t.test('a page ends before its payload exceeds MAX_PAGE_BYTES, but has at least one record', async (t) => {
  const { post, get } = await createApp(t, { MAX_PAGE_BYTES: '10000' })
  const data = 'x'.repeat(3000)
  await post(numbers(1, 7).map((id) => ({ source: 'bytes', type: 't', id, data: id === '5' ? data.repeat(5) : data })))
  const sizes: string[][] = []
  for (let next = ''; next !== null; ) {
    const { json } = await get(`/v1/records?order=asc${next === '' ? '' : `&cursor=${next}`}`)
    sizes.push(json.records.map(({ id }: Read) => id))
    next = json.next
  }
  t.same(sizes, [['1', '2'], ['3', '4'], ['5'], ['6', '7']])
})

// A page grew beyond the memory that was reserved for it, and was refused.
t.test('what JSON escapes counts toward MAX_PAGE_BYTES', async (t) => {
  const { post, get } = await createApp(t, { MAX_PAGE_BYTES: '10000' })
  const quotes = '"'.repeat(250)
  for (const [type, record] of [
    ['media', { datacontenttype: `text/plain; x="${'\\"'.repeat(1000)}"` }],
    ['control', { datacontenttype: `text/plain; x="${'\u0001'.repeat(800)}"` }],
    ['subject', { subject: '\\'.repeat(2000) }],
    ['extension', { note: '"'.repeat(2000) }],
    [quotes, {}],
  ] as const) {
    const records = numbers(1, 12).map((id) => ({
      source: `escaped/${encodeURIComponent(type).slice(0, 9)}`,
      type,
      id: `${id}${quotes}`,
      ...record,
    }))
    t.equal((await post(records)).status, 201)
    const page = await get(`/v1/records?type=${encodeURIComponent(type)}`)
    t.ok(page.json.next !== null && page.text.length > 4_000 && page.text.length <= 10_000, `${page.text.length} bytes`)
  }
})
