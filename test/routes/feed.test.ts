import { once } from 'node:events'
import { connect as open } from 'node:net'
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from 'node:zlib'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { encodeOffset } from '../../src/lib/offset.ts'
import { type Answer, createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { selecting } from '../helpers/feed.ts'
import { openClient } from '../helpers/http.ts'
import { isProblem } from '../helpers/problem.ts'
import { head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const { app, database, get, key, makeKey } = await createApp(t)
const port = await listen(app)
const client = openClient(t, port, key)
const root = connect(database.superUrl)
t.teardown(() => root.destroy())

// Their transaction id is so low that no running transaction, here or in another database of the server, holds the records back.
await sql`SELECT sluice.current_epoch()`.execute(root)
await sql`
  INSERT INTO sluice.records (epoch, xid, n, source, id, type, subject, data)
  SELECT (SELECT max(epoch) FROM sluice.epochs), '5', n, CASE WHEN n % 5 = 0 THEN 'bank' ELSE 'shop' END, n, 't' || n % 2, 'x' || n,
         ('{ "n":' || n || E',\n "text": "' || repeat('x', 100) || '"}')::json
  FROM generate_series(1, 25) AS n`.execute(root)

const idsFrom = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, at) => String(first + at))
const idsOf = ({ json }: Answer) => json.map(({ id }: { id: string }) => id)
const linesOf = (text: string) => text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line).id]))
const nextOf = ({ headers }: Answer) => headers['stream-next-offset'] as string
const NDJSON = { accept: 'application/x-ndjson' }
const BATCH = { accept: 'application/cloudevents-batch+json' }
const GZIP = { 'accept-encoding': 'gzip' }
const end = nextOf(await get('/v1/feed?offset=now'))

// — pages —

t.test('pages lead from the start to the head, and only the last one is up to date', async (t) => {
  const pages = [await get('/v1/feed?limit=10')]
  for (let page = pages[0] as Answer; page.headers['stream-up-to-date'] === undefined; pages.push(page))
    page = await get(`/v1/feed?limit=10&offset=${nextOf(page)}`)
  t.same(pages.map(idsOf), [idsFrom(1, 10), idsFrom(11, 20), idsFrom(21, 25)])
  for (const { status, headers } of pages) {
    t.equal(status, 200)
    t.match(headers, {
      'content-type': /^application\/json\b/,
      'stream-next-offset': /^1[\da-f]{48}$/,
      'stream-cursor': /^\d+$/,
      etag: /^W\/"[^"]+"$/,
      vary: /authorization/,
    })
  }
  t.equal(pages[2]?.headers['stream-up-to-date'], 'true')
  t.equal(nextOf(pages[2] as Answer), end)
})

t.test('a record in a page is the same as that of its own URL, and its cursor is an offset', async (t) => {
  const [record] = (await get('/v1/feed?limit=1')).json
  t.same(record, (await get('/v1/records/shop/1')).json)
  t.same(idsOf(await get(`/v1/feed?limit=1&offset=${record.cursor}`)), ['2'])
})

t.test('offset=-1 is the start, as no offset; offset=now is the head', async (t) => {
  t.equal((await get('/v1/feed?offset=-1')).text, (await get('/v1/feed')).text)
  const now = await get('/v1/feed?offset=now')
  t.match(now, { status: 200, text: '[]', headers: { 'stream-up-to-date': 'true', 'cache-control': 'no-store' } })
  t.equal(now.headers.etag, undefined)
  t.match(await get(`/v1/feed?offset=${end}`), { text: '[]', headers: { 'stream-next-offset': end } })
})

t.test('a full page may be cached, and a page that ends at the head may not', async (t) => {
  t.match((await get('/v1/feed?limit=10')).headers['cache-control'], /^private, max-age=\d+/)
  for (const query of ['', '?limit=25', '?source=bank', `?offset=${end}`])
    t.equal((await get(`/v1/feed${query}`)).headers['cache-control'], 'no-store', query)
})

t.test('filters select records, alone and together', async (t) => {
  for (const [query, ids] of [
    ['source=bank', ['5', '10', '15', '20', '25']],
    ['sourcePrefix=ba', ['5', '10', '15', '20', '25']],
    ['type=t0&source=bank', ['10', '20']],
    ['type=t0&type=t1&source=bank', ['5', '10', '15', '20', '25']],
    ['subject=x7', ['7']],
    ['source=shop&subject=x5', []],
  ] as const) {
    const page = await get(`/v1/feed?${query}`)
    t.same(idsOf(page), ids, query)
    t.equal(nextOf(page), end, `${query}: it ends at the head`)
  }
  t.same(idsOf(await get('/v1/feed?source=bank&limit=2')), ['5', '10'])
})

// — conditional requests —

t.test('a page that the client has already is 304, with the headers of the page', async (t) => {
  for (const path of ['/v1/feed?limit=10', '/v1/feed']) {
    const page = await get(path)
    const etag = page.headers.etag as string
    for (const tags of [etag, etag.replace('W/', ''), `"other", ${etag}`, '*']) {
      const same = await get(path, { 'if-none-match': tags })
      t.match(same, { status: 304, text: '' }, tags)
      // A cache takes these over into the response that it has stored (RFC 9110, section 15.4.5).
      for (const name of ['etag', 'cache-control', 'vary', 'stream-next-offset', 'stream-up-to-date'])
        t.equal(same.headers[name], page.headers[name], `${path}, ${tags}: ${name}`)
    }
    for (const tags of ['"other"', 'W/"other"', etag.slice(0, -2), ''])
      t.equal((await get(path, { 'if-none-match': tags })).status, 200, tags)
  }
})

// A client would have taken a page of records for a page of CloudEvents, or a page for one that ends at the head.
t.test('pages that differ have different tags', async (t) => {
  const pages = ['/v1/feed?limit=10', '/v1/feed?limit=11', '/v1/feed', `/v1/feed?offset=${end}`]
  const tags = await Promise.all(pages.map(async (path) => (await get(path)).headers.etag))
  t.equal(new Set(tags).size, pages.length)
  t.not((await get('/v1/feed', BATCH)).headers.etag, tags[2])

  const atHead = await get('/v1/feed?subject=x25')
  t.equal(atHead.headers['stream-up-to-date'], 'true')
  await sql`
    INSERT INTO sluice.records (epoch, xid, n, source, id, type, subject)
    SELECT max(epoch), '6', 1, 'later', 'later', 't', 'x25' FROM sluice.epochs`.execute(root)
  const full = await get('/v1/feed?subject=x25&limit=1')
  await sql`DELETE FROM sluice.records WHERE id = 'later'`.execute(root)
  t.equal(nextOf(full), nextOf(atHead))
  t.equal(full.headers['stream-up-to-date'], undefined)
  t.not(full.headers.etag, atHead.headers.etag)
})

// — formats —

t.test('a page of CloudEvents has none of the members that the server adds', async (t) => {
  const page = await get('/v1/feed?limit=2', BATCH)
  t.equal(page.headers['content-type'], 'application/cloudevents-batch+json')
  t.same(idsOf(page), ['1', '2'])
  for (const event of page.json) t.notOk('cursor' in event || 'receivedAt' in event)
  t.match(page.json[0], { specversion: '1.0', data: { n: 1 } })
})

t.test('lines are all records up to the head, one per line', async (t) => {
  for (const type of ['application/x-ndjson', 'application/ndjson', 'application/jsonl']) {
    const answer = await client.send('GET', '/v1/feed', { accept: type })
    t.match(answer, { status: 200, headers: { 'content-type': `${type}; charset=utf-8` } })
    t.same(linesOf(answer.text), idsFrom(1, 25))
  }
  const rest = await client.send('GET', `/v1/feed?offset=${(await get('/v1/feed?limit=20')).json[19].cursor}`, NDJSON)
  t.same(linesOf(rest.text), idsFrom(21, 25))
  t.same(linesOf((await client.send('GET', '/v1/feed?offset=now', NDJSON)).text), [])
})

t.test('lines end at the head of the request, which their headers name, and none is empty', async (t) => {
  for (const [query, expected] of [
    ['', idsFrom(1, 25)],
    ['?offset=now', []],
    ['?source=none', []],
    [`?offset=${end}`, []],
  ] as const) {
    const { status, headers, text } = await client.send('GET', `/v1/feed${query}`, NDJSON)
    t.match({ status, headers }, { status: 200, headers: { 'stream-next-offset': end } }, query)
    t.equal(text.split('\n').length, expected.length + 1, query)
    t.same(linesOf(text), expected, query)
  }
})

t.test('lines end, although records are stored while they are read', async (t) => {
  const feed = app.semaphores.feed
  const { run } = feed
  let reads = 0
  const store = () =>
    sql`
    INSERT INTO sluice.records (epoch, xid, n, source, id, type)
    SELECT max(epoch), '6', 1, 'later', 'later', 't' FROM sluice.epochs`.execute(root)
  // It reads the head, and then a page.
  const calls = t.capture(feed, 'run', async (...args: Parameters<typeof run>) => {
    if (++reads === 2) await store()
    return run.apply(feed, args)
  })
  const { headers, text } = await client.send('GET', '/v1/feed', NDJSON)
  calls.restore()
  await sql`DELETE FROM sluice.records WHERE id = 'later'`.execute(root)
  t.equal(reads, 2)
  t.same(linesOf(text), idsFrom(1, 25))
  t.equal(headers['stream-next-offset'], end)
})

// Their headers named the head, but they ended at what the watcher knew. If it knew that it was behind, they waited for it without
// letting it run, so that the process stood still.
t.test('lines reach the head that their headers name, although the watcher has not heard of it', async (t) => {
  const { watcher } = app.feed
  t.teardown(watcher.join())
  const isWatching = () => watcher.read(selecting(), end, { limit: 1, maxBytes: 1 })?.upToDate
  await until('the watcher', isWatching)
  // Its only connection.
  await app.db.watch.connection().execute(async () => {
    await sql`
      INSERT INTO sluice.records (epoch, xid, n, source, id, type)
      SELECT max(epoch), '6', 1, 'later', 'later', 't' FROM sluice.epochs`.execute(root)
    t.ok(isWatching())
    for (const knows of [false, true]) {
      if (knows) watcher.doubt()
      const { headers, text } = await client.send('GET', `/v1/feed?offset=${end}`, NDJSON)
      t.same(linesOf(text), ['later'])
      t.equal(headers['stream-next-offset'], JSON.parse(text).cursor)
    }
  })
  await sql`DELETE FROM sluice.records WHERE id = 'later'`.execute(root)
})

t.test('a response is compressed if the client accepts that', async (t) => {
  const plain = await client.send('GET', '/v1/feed')
  for (const [coding, inflate] of [
    ['gzip', gunzipSync],
    ['br', brotliDecompressSync],
    ['zstd', zstdDecompressSync],
  ] as const) {
    const page = await client.send('GET', '/v1/feed', { 'accept-encoding': coding })
    t.equal(page.headers['content-encoding'], coding)
    t.equal(inflate(page.bytes).toString(), plain.text)
    const lines = await client.send('GET', '/v1/feed', { ...NDJSON, 'accept-encoding': coding })
    t.equal(lines.headers['content-encoding'], coding)
    t.same(linesOf(inflate(lines.bytes).toString()), idsFrom(1, 25))
  }
  t.equal((await client.send('GET', '/v1/feed', { 'accept-encoding': 'identity' })).text, plain.text)
  isProblem(t, await get('/v1/feed', { 'accept-encoding': 'identity;q=0, *;q=0' }), 'not_acceptable')
})

/** The most that a request reserves, in bytes. */
async function reservedBy(t: Test, path: string, headers: Record<string, string>) {
  let most = 0
  const { openReservation } = app.responseMemory
  const calls = t.capture(app.responseMemory, 'openReservation', (owner: string) => {
    const reserve = openReservation.call(app.responseMemory, owner)
    return (bytes: number) => {
      most = Math.max(most, bytes)
      reserve(bytes)
    }
  })
  await client.send('GET', path, headers)
  calls.restore()
  return most
}

// Only whole pages reserved memory for their compressor, so stalled readers of lines took 1.6 MiB each that nothing counted.
t.test('lines reserve memory for their compressor', async (t) => {
  const reserved = (headers: Record<string, string>) => reservedBy(t, '/v1/feed', headers)
  t.ok((await reserved({ ...NDJSON, ...GZIP })) - (await reserved(NDJSON)) >= 1.6 * 1024 * 1024)
})

// They reserved a byte for each character.
t.test('lines reserve memory for all bytes of their characters', async (t) => {
  await sql`
    INSERT INTO sluice.records (epoch, xid, n, source, id, type, data)
    SELECT max(epoch), '6', 1, 'euro', 'euro', 't', to_json(repeat('€', 100000)) FROM sluice.epochs`.execute(root)
  t.ok((await reservedBy(t, '/v1/feed?source=euro', NDJSON)) >= 300_000)
  await sql`DELETE FROM sluice.records WHERE id = 'euro'`.execute(root)
})

t.test('no other media type is acceptable, and lines are not for long-poll', async (t) => {
  isProblem(t, await get('/v1/feed', { accept: 'text/csv' }), 'not_acceptable')
  isProblem(t, await get(`/v1/feed?live=long-poll&offset=${end}&timeout=0`, NDJSON), 'not_acceptable')
})

// — methods —

const askHead = (url: string, token: string) =>
  app.inject({ method: 'HEAD', url, headers: { authorization: `Bearer ${token}` } })

t.test('HEAD is the head of the feed, without a body', async (t) => {
  for (const path of ['/v1/feed', '/v1/feed?source=none']) {
    const answer = await askHead(path, key)
    t.match(answer, { statusCode: 200, body: '' })
    t.match(answer.headers, {
      'stream-next-offset': end,
      'cache-control': 'no-store',
      'content-type': /^application\/json\b/,
    })
  }
})

t.test('every other method is 405', async (t) => {
  for (const method of ['POST', 'PUT', 'DELETE', 'PATCH']) {
    const answer = await client.send(method, '/v1/feed')
    isProblem(t, answer, 'method_not_allowed', { name: method })
    t.same(String(answer.headers.allow).split(', ').sort(), ['GET', 'HEAD', 'OPTIONS'], method)
  }
})

// — keys —

t.test('a key with source prefixes reads only its sources, in every form', async (t) => {
  const headers = { authorization: `Bearer ${(await makeKey({ scopes: ['read'], sourcePrefixes: ['bank'] })).token}` }
  const page = await get('/v1/feed', headers)
  t.same(idsOf(page), ['5', '10', '15', '20', '25'])
  t.equal(nextOf(page), end)
  t.same(idsOf(await get('/v1/feed?source=shop', headers)), [])
  t.same(idsOf(await get('/v1/feed?type=t0', headers)), ['10', '20'])
  t.same(linesOf((await client.send('GET', '/v1/feed', { ...headers, ...NDJSON })).text), ['5', '10', '15', '20', '25'])
})

t.test('a request without a key, or with one that may not read, is refused', async (t) => {
  const { token } = await makeKey({ scopes: ['ingest'] })
  for (const path of ['/v1/feed', '/v1/feed?live=sse&offset=now', '/v1/feed?live=long-poll&offset=now'])
    isProblem(t, await get(path, { authorization: `Bearer ${token}` }), 'forbidden', { name: path })
  isProblem(t, await get('/v1/feed', { authorization: '' }), 'unauthorized')
  t.equal((await askHead('/v1/feed', token)).statusCode, 403)
})

// — refusals —

t.test('a parameter that is wrong is refused, and the response names it', async (t) => {
  for (const [query, pointer] of [
    ['live=yes', 'live'],
    ['live=true', 'live'],
    ['live=long-poll', 'offset'],
    ['live=sse', 'offset'],
    ['live=long-poll&offset=now&timeout=-1', 'timeout'],
    ['live=long-poll&offset=now&timeout=61', 'timeout'],
    ['live=long-poll&offset=now&timeout=soon', 'timeout'],
    ['timeout=1', 'timeout'],
    ['limit=0', 'limit'],
    ['limit=1001', 'limit'],
    ['limit=1.5', 'limit'],
    ['live=sse&offset=now&limit=5', 'limit'],
    ['source=', 'source'],
    ['type=', 'type'],
    ['source=a%00', 'source'],
    ['offset=', 'offset'],
  ] as const) {
    const answer = await get(`/v1/feed?${query}`)
    isProblem(t, answer, 'invalid_query', { name: query })
    t.match(answer.json.errors[0].pointer, pointer, query)
  }
})

// A reader that believed in its filter would have got all records.
t.test('a filter of GET /v1/records that the feed lacks is refused, and an unknown parameter is ignored', async (t) => {
  for (const [query, answer] of [
    ['id=1', /records has id\./],
    ['order=desc', /records has order\./],
    ['jsonpath=$.n', /records has jsonpath\./],
    ['data=%7B%7D', /records has data\./],
    ['fields=id', /records has fields\./],
    ['count=true', /records has count\./],
    ['timeFrom=2026-01-01T00:00:00Z', /records has timeFrom\./],
    ['receivedUntil=2026-01-01T00:00:00Z', /records has receivedUntil\./],
    ['q=1', /records has jsonpath\./],
    ['filter=a', /records has jsonpath\./],
    ['sources=bank', /Did you mean source\?/],
    ['source_prefix=bank', /Did you mean sourcePrefix\?/],
    ['TYPE=t0', /Did you mean type\?/],
    ['since=1', /Did you mean offset\?/],
  ] as const)
    for (const live of ['', '&live=long-poll&offset=-1', '&live=sse&offset=-1']) {
      const refused = await get(`/v1/feed?${query}${live}`)
      const name = query.split('=')[0] as string
      isProblem(t, refused, 'invalid_query', { name: query + live, errors: [{ pointer: name, detail: answer }] })
    }
  for (const query of ['colour=red', '_=1', 'utm_campaign=x', 'colour=red&colour=blue'])
    t.same(idsOf(await get(`/v1/feed?source=bank&${query}`)), ['5', '10', '15', '20', '25'], query)
})

t.test('an offset of another service, or one that was changed, is refused', async (t) => {
  const changed = end.slice(0, -1) + (end.endsWith('0') ? '1' : '0')
  for (const offset of [changed, '0', '-2', 'NOW', `${end},`, 'AAAAAQAAAAAAAAABAAAAAAAAAAUAAAAA'])
    for (const live of ['', '&live=long-poll', '&live=sse'])
      isProblem(t, await get(`/v1/feed?offset=${offset}${live}`), 'invalid_offset', { name: offset + live })
})

t.test('an offset that this database has not assigned yet is refused', async (t) => {
  const ahead = encodeOffset({ epoch: 2 ** 30, xid: '999999999999', n: 0 })
  for (const query of ['', '&live=long-poll&timeout=0', '&source=none', '&live=sse'])
    isProblem(t, await get(`/v1/feed?offset=${ahead}${query}`), 'offset_ahead', { name: query })
  for (const query of ['', '&source=none', '&live=true'])
    isProblem(t, await get(`/v1/feed?offset=${ahead}${query}`, NDJSON), 'offset_ahead', { name: `lines${query}` })
})

// — HTTP/1.0 —

t.test('a client of HTTP/1.0 gets pages and lines, whose end is the end of the connection', async (t) => {
  for (const [headers, expected] of [
    [{}, (body: string) => JSON.parse(body).map(({ id }: { id: string }) => id)],
    [NDJSON, linesOf],
  ] as const) {
    const socket = open(port, '127.0.0.1')
    let text = ''
    socket.setEncoding('utf8').on('data', (chunk) => {
      text += chunk
    })
    socket.write(
      head('GET', '/v1/feed', { Authorization: `Bearer ${key}`, ...headers }).replace('HTTP/1.1', 'HTTP/1.0'),
    )
    await once(socket, 'end')
    socket.destroy()
    const [start = '', body = ''] = text.split(/\r\n\r\n(.*)/s)
    t.match(start, /^HTTP\/1\.[01] 200 OK\r\n/)
    t.notMatch(start, /transfer-encoding/i)
    t.same(expected(body), idsFrom(1, 25))
  }
})
