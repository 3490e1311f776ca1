import { gunzipSync } from 'node:zlib'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { streamCursor } from '../../src/feed/stream-cursor.ts'
import { encodeOffset } from '../../src/lib/offset.ts'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { openClient } from '../helpers/http.ts'
import { openReader } from '../helpers/live-reader.ts'
import { isProblem } from '../helpers/problem.ts'
import { listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

// After this time without a record, a stream says that it is alive.
const SILENCE_MS = 8_000

const { app, database, get, key, makeKey, post } = await createApp(t)
const port = await listen(app)
const root = connect(database.superUrl)
t.teardown(() => root.destroy())

/** Stores records, one for each id, in one commit. */
async function store(source: string, ...ids: (string | number)[]) {
  const { status } = await post(ids.map((id) => ({ source, type: 't', id: String(id), data: { text: 'two\nlines' } })))
  if (status !== 201) throw new Error(`not stored: ${status}`)
}

type Identified = { id: string; cursor: string }
const idsOf = (records: Identified[]) => records.map(({ id }) => id)

/** Waits with long-poll for records of this source after an offset. */
const poll = (query: string, headers: Record<string, string> = {}) => get(`/v1/feed?live=long-poll&${query}`, headers)

/** An offset after which only records come that are stored from now on. */
async function now() {
  await store('now', `${performance.now()}`)
  const { json } = await get('/v1/records?limit=1')
  const { cursor } = json.records[0]
  // A transaction of another database may hold the head back for an instant.
  await until('the head', async () => (await get('/v1/feed?offset=now')).headers['stream-next-offset'] === cursor)
  return cursor as string
}

const openStream = async (t: Test, query: string, headers: Record<string, string> = {}, token = key) => {
  const stream = await openReader(t, port, token, `/v1/feed?${query}`, headers)
  t.equal(stream.status, 200)
  return stream
}

const openEvents = (t: Test, query: string, headers: Record<string, string> = {}) =>
  openStream(t, `live=sse&${query}`, { accept: 'text/event-stream', ...headers })

// — long-poll —

t.test('a long-poll answers at once if there is a record', async (t) => {
  const after = await now()
  await store('at-once', 1, 2, 3)
  const page = await poll(`offset=${after}&source=at-once&timeout=60`)
  t.match(page, { status: 200, headers: { 'stream-cursor': /^\d+$/, 'cache-control': 'no-store' } })
  t.equal(page.headers.etag, undefined)
  t.same(idsOf(page.json), ['1', '2', '3'])
  const part = await poll(`offset=${after}&source=at-once&limit=2`)
  t.same(idsOf(part.json), ['1', '2'])
  t.equal(part.headers['stream-up-to-date'], undefined)
  const rest = await poll(`offset=${part.headers['stream-next-offset']}&source=at-once`)
  t.same(idsOf(rest.json), ['3'])
})

t.test('a long-poll waits for a record that matches, and others do not end it', async (t) => {
  const after = await now()
  let isOver = false
  const page = poll(`offset=${after}&source=awaited&timeout=60`).finally(() => {
    isOver = true
  })
  await until('the reader', () => app.feed.readers.used === 1)
  await store('other', 1, 2)
  t.notOk(isOver)
  await store('awaited', 3)
  t.match(await page, { status: 200, headers: { 'stream-up-to-date': 'true' } })
  t.same(idsOf((await page).json), ['3'])
  await until('no reader', () => app.feed.readers.used === 0)
})

t.test('a long-poll of now gets the first record that is stored after it', async (t) => {
  await now()
  const page = poll('offset=now&source=new&timeout=60')
  await until('the reader', () => app.feed.readers.used === 1)
  // It reads the head before it waits.
  const ids: string[] = []
  const storing = (async () => {
    for (let n = 0; ids.length === 0; n++) {
      await store('new', n)
      await Promise.race([page.then(({ json }) => ids.push(...idsOf(json))), new Promise(setImmediate)])
    }
  })()
  t.equal((await page).status, 200)
  await storing
  t.ok(ids.length > 0)
})

t.test('a long-poll without a record is 204, with the offset to continue from', async (t) => {
  const after = await now()
  for (const timeout of ['0', '0.05', '1']) {
    const started = performance.now()
    const answer = await poll(`offset=${after}&source=none&timeout=${timeout}`)
    t.match(answer, { status: 204, text: '' })
    t.match(answer.headers, {
      'stream-next-offset': after,
      'stream-up-to-date': 'true',
      'stream-cursor': /^\d+$/,
      'cache-control': 'no-store',
    })
    t.ok(performance.now() - started >= Number(timeout) * 1000 - 5, `it waits for ${timeout} s`)
  }
})

t.test('a long-poll whose filter matches nothing moves on with the head', async (t) => {
  const after = await now()
  const waiting = poll(`offset=${after}&source=none&timeout=1`)
  await until('the reader', () => app.feed.readers.used === 1)
  const later = await now()
  t.equal((await waiting).headers['stream-next-offset'], later)
})

t.test('the cursor of a live response is never the one of the request', async (t) => {
  const after = await now()
  const first = (await poll(`offset=${after}&timeout=0&source=none`)).headers['stream-cursor']
  const second = (await poll(`offset=${after}&timeout=0&source=none&cursor=${first}`)).headers['stream-cursor']
  t.ok(Number(second) > Number(first))
})

t.test('a long-poll of CloudEvents is a batch', async (t) => {
  const after = await now()
  await store('events', 1)
  const page = await poll(`offset=${after}&source=events`, { accept: 'application/cloudevents-batch+json' })
  t.equal(page.headers['content-type'], 'application/cloudevents-batch+json')
  t.notOk('cursor' in page.json[0])
})

// — server-sent events —

t.test('events are records as they are stored, and each has the offset to continue from as its id', async (t) => {
  const after = await now()
  await store('sse', 1, 2)
  const stream = await openEvents(t, `offset=${after}&source=sse`)
  t.match(stream.answer.headers, {
    'content-type': /^text\/event-stream/,
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  })
  await until('the records', () => stream.records().length === 2)
  for (const n of [3, 4]) {
    await store('sse', n)
    await until('the record', () => stream.records().length === n)
  }
  t.same(idsOf(stream.records()), ['1', '2', '3', '4'])
  await until('the last event', () => stream.events().at(-1)?.event === 'control')
  // A transaction of another database may hold the first records back for an instant. Then the stream begins with a control event.
  const events = stream.events()
  const data = events.filter(({ event }) => event === 'data')
  const followers = events.filter((_, index) => events[index - 1]?.event === 'data')
  const controls = stream.controls()
  t.same(
    data.map(({ id }) => ({ event: 'control', id })),
    followers.map(({ event, id }) => ({ event, id })),
    'each data event is followed by a control event with the same id',
  )
  for (const { id, data } of followers) t.equal(JSON.parse(data as string).streamNextOffset, id)
  t.match(controls.at(-1), { upToDate: true, streamCursor: /^\d+$/ })
  t.equal(stream.records().at(-1)?.cursor, data.at(-1)?.id)
})

t.test('a stream of now begins with the offset of the head', async (t) => {
  const head = await now()
  const stream = await openEvents(t, 'offset=now&source=none')
  await until('the first event', () => stream.controls()[0])
  t.match(stream.controls(), [{ streamNextOffset: head, upToDate: true }])
  t.match(stream.events()[0], { retry: /^\d+$/ })
})

t.test('a reader that resumes with Last-Event-ID gets each record once, whatever the URL says', async (t) => {
  const after = await now()
  await store('resumed', ...Array.from({ length: 2000 }, (_, n) => n))
  const ids: string[] = []
  let last: string | undefined
  // It leaves as soon as it has received an event, so it often leaves in the middle of another one.
  for (let connections = 0; ids.length < 2000; connections++) {
    const stream = await openEvents(
      t,
      `offset=${after}&source=resumed`,
      last === undefined ? {} : { 'last-event-id': last },
    )
    await until('an event', () => stream.records().length > 0)
    stream.answer.on('error', () => {}).destroy()
    ids.push(...idsOf(stream.records()))
    last = stream.events().findLast(({ event }) => event === 'data')?.id
    if (connections > 2000) throw new Error('it makes no progress')
  }
  t.same(
    ids,
    Array.from({ length: 2000 }, (_, n) => String(n)),
  )
  await until('no reader', () => app.feed.readers.used === 0)
})

t.test('a damaged Last-Event-ID is refused', async (t) => {
  isProblem(t, await get('/v1/feed?live=sse&offset=now', { 'last-event-id': 'x' }), 'invalid_offset')
})

// It came after some seconds of silence, or not at all if the head had the same offset.
t.test('a reader whose filter matches nothing learns at once that it has reached the head', async (t) => {
  await sql`
    INSERT INTO sluice.records (epoch, xid, n, source, id, type)
    SELECT (SELECT max(epoch) FROM sluice.epochs), '5', n, 'many', n, 't' FROM generate_series(1, 20000) AS n`.execute(
    root,
  )
  for (const rest of [[], ['one more']]) {
    if (rest.length > 0) await store('rest', ...rest)
    const started = performance.now()
    const stream = await openEvents(t, 'offset=-1&source=none')
    await until('the head', () => stream.controls().at(-1)?.upToDate)
    t.ok(performance.now() - started < SILENCE_MS / 2)
    t.same(
      stream.controls().map(({ upToDate }) => upToDate),
      [undefined, true],
    )
    stream.answer.destroy()
  }
})

// It said so after the first page of a large request: its reader took a part of the records for all.
t.test('a stream says that it has reached the head only there', async (t) => {
  const last = 20_000
  const stream = await openEvents(t, `offset=${await now()}&source=large`)
  await until('the first event', () => stream.controls()[0])
  await sql`
    INSERT INTO sluice.records (epoch, n, source, id, type)
    SELECT (SELECT max(epoch) FROM sluice.epochs), n, 'large', n, 't' FROM generate_series(1, ${last}::integer) AS n`.execute(
    root,
  )
  const { rows } = await sql<{ cursor: string }>`
    SELECT epoch, xid::text, n FROM sluice.records WHERE source = 'large' AND id = ${String(last)}`.execute(root)
  const head = encodeOffset(rows[0] as never)
  await until('the head', () => stream.controls().at(-1).streamNextOffset === head && stream.controls().at(-1).upToDate)
  t.equal(stream.records().length, last)
  const controls = stream.controls().slice(1)
  t.ok(controls.length > 10)
  for (const { streamNextOffset, upToDate } of controls) t.equal(upToDate, streamNextOffset === head ? true : undefined)
})

// Only the first cursor was that of the request, so the second one was an hour older.
t.test('the cursor of a stream never goes backwards, even if that of the request is ahead', async (t) => {
  for (const ahead of ['', `&cursor=${Number(streamCursor(undefined)) + 100}`]) {
    const stream = await openEvents(t, `offset=now&source=cursors${ahead}`)
    for (let n = 1; n <= 4; n++) {
      await until('the event', () => stream.controls().length === n)
      await store('cursors', `${ahead} ${n}`)
    }
    const cursors = stream.controls().map(({ streamCursor }) => Number(streamCursor))
    t.same(
      cursors,
      cursors.toSorted((one, other) => one - other),
    )
    t.ok((cursors[0] as number) > Number(ahead.replace('&cursor=', '')))
  }
})

// — lines, and silence —

t.test('a client that accepts only compressed responses gets no stream', async (t) => {
  const after = await now()
  for (const codings of ['gzip, identity;q=0', 'gzip, *;q=0', 'br, zstd, identity;q=0'])
    for (const [live, accept] of [
      ['sse', 'text/event-stream'],
      ['true', 'application/x-ndjson'],
    ]) {
      const refused = await get(`/v1/feed?live=${live}&offset=now`, {
        accept: accept as string,
        'accept-encoding': codings,
      })
      isProblem(t, refused, 'not_acceptable', { name: `${live}, ${codings}` })
      t.match(refused.json.detail, 'Live responses are not compressed')
    }
  await store('compressed', 1)
  const path = `/v1/feed?live=long-poll&offset=${after}&source=compressed`
  const page = await openClient(t, port, key).send('GET', path, { 'accept-encoding': 'gzip, identity;q=0' })
  t.equal(page.headers['content-encoding'], 'gzip', 'a long-poll has a whole page')
  t.match(gunzipSync(page.bytes).toString(), '"source":"compressed"')
  const stream = await openEvents(t, 'offset=now', { 'accept-encoding': 'gzip, br' })
  t.equal(stream.answer.headers['content-encoding'], undefined)
})

t.test('with live=true, lines continue after the head', async (t) => {
  const after = await now()
  await store('lines', 1, 2)
  const stream = await openStream(t, `live=true&offset=${after}&source=lines`, { accept: 'application/x-ndjson' })
  t.match(stream.answer.headers['content-type'], 'application/x-ndjson')
  const ids = () => stream.lines().flatMap((line) => (line === '' ? [] : [JSON.parse(line).id]))
  await until('the first lines', () => ids().length === 2)
  await store('lines', 3)
  await until('the next line', () => ids().length === 3)
  t.same(ids(), ['1', '2', '3'])
})

t.test('after eight seconds of silence, a stream of any form says that it is alive', async (t) => {
  await now()
  const events = await openEvents(t, 'offset=now&source=none')
  const lines = await openStream(t, 'live=true&offset=now&source=none', { accept: 'application/x-ndjson' })
  await until('the first event', () => events.controls()[0])
  await until('the first line', () => lines.text() !== '')
  const [started, before] = [performance.now(), lines.text().length]
  await until('a comment', () => events.events().some(({ comment }) => comment !== undefined))
  await until('an empty line', () => lines.text().length > before)
  const ms = performance.now() - started
  t.ok(ms > SILENCE_MS - 1000 && ms < SILENCE_MS + 2000, `after ${ms} ms`)
  t.equal(events.controls().length, 1, 'the offset is not new')
  t.match(lines.text(), /^\n+$/)
})

// A read that began after a long silence was as long silent once more.
t.test('a stream says soon that it is alive while it waits for the database', async (t) => {
  await root.transaction().execute(async (trx) => {
    await sql`LOCK TABLE sluice.records IN ACCESS EXCLUSIVE MODE`.execute(trx)
    const started = performance.now()
    const stream = await openEvents(t, 'offset=-1&source=none')
    await until('a comment', () => stream.events().some(({ comment }) => comment !== undefined))
    t.ok(performance.now() - started < SILENCE_MS)
    t.same(
      stream.controls().map(({ upToDate }) => upToDate),
      [undefined],
    )
  })
})

// — keys —

t.test('a live reader gets only the sources of its key', async (t) => {
  const after = await now()
  const { token } = await makeKey({ scopes: ['read'], sourcePrefixes: ['own'] })
  const stream = await openStream(t, `live=sse&offset=${after}`, {}, token)
  const page = poll(`offset=${after}&timeout=60`, { authorization: `Bearer ${token}` })
  await until('both readers', () => app.feed.readers.used === 2)
  await store('foreign', 1)
  await store('own/1', 2)
  await until('the record', () => stream.records().length > 0)
  t.same(idsOf(stream.records()), ['2'])
  t.same(idsOf((await page).json), ['2'])
})
