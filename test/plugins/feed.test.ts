import { connect as open, type Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { sql } from 'kysely'
import t from 'tap'
import { createApp, type TestApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { parseEvents } from '../helpers/feed.ts'
import { openClient } from '../helpers/http.ts'
import { openReader } from '../helpers/live-reader.ts'
import { isProblem } from '../helpers/problem.ts'
import { scrape } from '../helpers/scrape.ts'
import { head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const server = await createApp(t, { FEED_MAX_READERS: '400' })
const { app, database, get, key, makeKey, post } = server
const port = await listen(app)
const root = connect(database.superUrl)
t.teardown(() => root.destroy())

const EVENTS = '/v1/feed?live=sse&offset=now'
const POLL = '/v1/feed?live=long-poll&timeout=60&offset=now'
const LINES = '/v1/feed?live=true&offset=now'
const NDJSON = { accept: 'application/x-ndjson' }

const readersOf = async ({ app }: Pick<TestApp, 'app'>) => (await scrape(app)).value('sluice_feed_readers')

// — limits —

t.test('a key may have half of the readers, and all keys together no more than the maximum', async (t) => {
  const small = await createApp(t, { FEED_MAX_READERS: '4' }, database)
  const at = await listen(small.app)
  const tokens = await Promise.all([1, 2, 3].map(async () => (await makeKey({ scopes: ['read'] })).token))
  const ask = (token: string | undefined) => small.get(POLL.replace('60', '0'), { authorization: `Bearer ${token}` })
  const [first, second, third] = tokens
  const readers = []
  for (const token of [first, first, second]) readers.push(await openReader(t, at, token as string, EVENTS))
  t.same(
    readers.map(({ status }) => status),
    [200, 200, 200],
  )
  for (const token of [first, second]) {
    const refused = await ask(token)
    isProblem(t, refused, 'overloaded')
    t.match(refused.headers['retry-after'], /^\d+$/)
    t.match(refused.json.detail, 'its share')
  }
  readers.push(await openReader(t, at, third as string, EVENTS))
  const full = await ask(key)
  isProblem(t, full, 'overloaded')
  t.match(full.json.detail, /^All 4 live readers/)
  t.equal(await readersOf(small), 4)
  t.equal((await scrape(small.app)).value('sluice_feed_max_readers'), 4)
  // Pages are not limited.
  t.equal((await small.get('/v1/feed', { authorization: `Bearer ${key}` })).status, 200)

  for (const { answer } of readers) answer.destroy()
  await until('no reader', async () => (await readersOf(small)) === 0)
  t.equal((await ask(first)).status, 204)
})

t.test('two hundred waiting readers cost no query of their own', async (t) => {
  const readers = await Promise.all(Array.from({ length: 200 }, () => openReader(t, port, key, EVENTS)))
  await until('the first events', () => readers.every(({ text }) => text().includes('control')))
  t.equal(await readersOf(server), 200)
  const asked = t.capture(app.db.feed, 'getExecutor', app.db.feed.getExecutor)
  const { rows } = await sql<{ pid: number }>`
    SELECT pid FROM pg_stat_activity WHERE datname = ${database.name} AND application_name = 'sluice-feed'`.execute(
    root,
  )
  t.ok(rows.length > 0, 'they have read from the database at their beginning')
  for (let n = 0; n < 3; n++) {
    await post({ source: 'two-hundred', type: 't', id: String(n) })
    await until('all readers', () => readers.every(({ text }) => text().includes(`"id":"${n}"`)))
  }
  t.equal(asked().length, 0)
  for (const { answer } of readers) answer.destroy()
  await until('no reader', async () => (await readersOf(server)) === 0)
})

// They began while the watcher had not reached the head, and were woken only by a record, or after some seconds of silence.
t.test('the first readers of an instance learn at once that they have reached the head', async (t) => {
  const own = await createApp(t, {}, database)
  const at = await listen(own.app)
  const started = performance.now()
  const readers = await Promise.all([1, 2, 3].map(() => openReader(t, at, own.key, EVENTS)))
  await until('the head', () => readers.every(({ controls }) => controls().at(-1)?.upToDate))
  t.ok(performance.now() - started < 4_000)
})

// The head of the database was then below the memory, and each such reader read again and again, without a pause.
t.test('after all records were deleted, readers wait as before', async (t) => {
  const own = await createApp(t)
  const at = await listen(own.app)
  const db = connect(own.database.superUrl)
  t.teardown(() => db.destroy())
  await own.post({ source: 's', type: 't', id: 'first' })
  const open = (offset: string) => openReader(t, at, own.key, EVENTS.replace('now', offset))
  const isUpToDate = ({ controls }: Awaited<ReturnType<typeof openReader>>) => controls().at(-1)?.upToDate === true
  const readers = [await open('now')]
  await until('the first events', () => readers.every(isUpToDate))
  await own.post({ source: 's', type: 't', id: 'deleted' })
  await until('the record', () => readers[0]?.text().includes('"deleted"'))
  await sql`DELETE FROM sluice.records`.execute(db)
  for (const offset of ['-1', 'now']) readers.push(await open(offset))
  await until('the first events', () => readers.every(isUpToDate))

  const reads = t.capture(own.app.semaphores.feed, 'run', own.app.semaphores.feed.run)
  const watched = t.capture(own.app.db.watch, 'getExecutor', own.app.db.watch.getExecutor)
  let polls = 0
  // The watcher polls twice a second.
  await until('the watcher to read four times', () => {
    polls += watched().length
    return polls >= 4
  })
  t.ok(reads().length < 20, 'a reader does not read more often than it says that it is alive')
  await own.post({ source: 's', type: 't', id: 'last' })
  await until('the next record', () => readers.every(({ text }) => text().includes('"last"')))
})

// — readers that leave —

t.test('a reader that disconnects at any moment leaves nothing behind', async (t) => {
  const { watcher } = app.feed
  const { join } = watcher
  let joined = 0
  t.capture(watcher, 'join', () => {
    const leave = join.call(watcher)
    joined++
    return () => {
      joined--
      leave()
    }
  })
  const socket = () => open(port, '127.0.0.1').on('error', () => {})
  const request = (path: string) => head('GET', path, { Authorization: `Bearer ${key}` })
  const paths = [EVENTS, POLL, `${EVENTS.replace('now', '-1')}`, '/v1/feed?live=long-poll&offset=-1']
  const response = (socket: Socket) => new Promise((resolve) => socket.once('data', resolve))
  let left = 0
  /** Each begins a request and waits for its moment. */
  const moments: ((socket: Socket, path: string) => Promise<unknown>)[] = [
    async (socket, path) => socket.write(request(path).slice(0, -2)),
    async (socket, path) => new Promise((resolve) => socket.write(request(path), resolve)),
    async (socket, path) => {
      await until('no reader', () => app.feed.readers.used === 0)
      socket.write(request(path))
      await Promise.race([until('it to be counted', () => app.feed.readers.used > 0), response(socket)])
    },
    async (socket, path) => {
      socket.write(request(path))
      await Promise.race([response(socket), pause(50)])
    },
    async (socket, path) => {
      socket.write(request(path))
      await post({ source: 'left', type: 't', id: String(left++) })
    },
    // Two on one connection: the second waits behind the first.
    async (socket, path) => new Promise((resolve) => socket.write(request(path) + request(path), resolve)),
  ]
  for (const path of paths)
    for (const moment of moments)
      for (const leave of ['destroy', 'resetAndDestroy', 'end'] as const) {
        const one = socket()
        await moment(one, path)
        one[leave]()
        one.destroy()
      }
  await until('no reader', async () => (await readersOf(server)) === 0)
  await until('no memory', () => app.responseMemory.used === 0)
  t.equal(joined, 0)
})

t.test(
  'a reader that disconnects while it waits for the database leaves nothing behind, not even a warning',
  async (t) => {
    const own = await createApp(t)
    const at = await listen(own.app)
    const lock = connect(own.database.superUrl)
    t.teardown(() => lock.destroy())
    await own.app.ready()
    await lock.transaction().execute(async (trx) => {
      await sql`LOCK TABLE sluice.records IN ACCESS EXCLUSIVE MODE`.execute(trx)
      const sockets = [EVENTS, POLL, EVENTS.replace('now', '-1')].map((path) => {
        const socket = open(at, '127.0.0.1').on('error', () => {})
        socket.write(head('GET', path, { Authorization: `Bearer ${own.key}` }))
        return socket
      })
      await until('the readers', () => own.app.feed.readers.used === 3)
      for (const socket of sockets) socket.destroy()
      await until('no reader', async () => (await readersOf(own)) === 0)
    })
    await until('no memory', () => own.app.responseMemory.used === 0)
    // Then its statements have ended, and what is said of them is in the log.
    await own.app.close()
    t.same(
      own.logs.filter(({ level, requestId }) => level === 'warn' && requestId !== undefined),
      [],
    )
  },
)

t.test('the readers of a revoked key end within two seconds, and those of other keys stay', async (t) => {
  const { id, token } = await makeKey({ scopes: ['read'] })
  const readers = await Promise.all([openReader(t, port, token, EVENTS), openReader(t, port, token, LINES, NDJSON)])
  const other = await openReader(t, port, key, EVENTS)
  const polled = get(POLL, { authorization: `Bearer ${token}` })
  await until('all readers', async () => (await readersOf(server)) === 4)
  await sql`UPDATE sluice.keys SET revoked_at = now() WHERE id = ${id}`.execute(root)
  const started = performance.now()
  isProblem(t, await polled, 'unauthorized')
  await until('the end of the streams', () => readers.every(({ isOver }) => isOver()))
  // A busy machine may take longer.
  t.ok(performance.now() - started < 3_500)
  for (const { error } of readers) t.match(error(), { code: 'ECONNRESET' })
  t.notOk(other.isOver())
  other.answer.destroy()
  await until('no reader', async () => (await readersOf(server)) === 0)
})

// — the end of the server —

t.test('a server that closes ends its live readers with complete responses, and accepts no more', async (t) => {
  const own = await createApp(t, { CLOSE_SECONDS: '600' }, database)
  const at = await listen(own.app)
  const events = await openReader(t, at, own.key, EVENTS)
  const lines = await openReader(t, at, own.key, LINES, NDJSON)
  const { headers } = await own.get('/v1/feed?offset=now')
  // A long-poll is counted before it looks up what now is, and the record must come after its offset.
  const poll = POLL.replace('now', headers['stream-next-offset'] as string)
  const polled = openClient(t, at, own.key).send('GET', poll)
  await until('all readers', async () => (await readersOf(own)) === 3)
  await own.post({ source: 'closing', type: 't', id: '1' })
  await until('the record', () => events.text().includes('"closing"') && lines.text().includes('"closing"'))
  const page = await polled
  t.equal(page.status, 200)
  const waiting = openClient(t, at, own.key).send('GET', `${poll}&source=none`)
  const late = openClient(t, at, own.key)
  t.equal((await late.send('GET', '/healthz')).status, 200)
  await until('it to wait', async () => (await readersOf(own)) === 3)

  const started = performance.now()
  const closed = own.app.close()
  const last = await waiting
  t.match(last, { status: 204, headers: { 'stream-up-to-date': 'true', 'stream-next-offset': /^1/ } })
  await until('the end of both', () => events.isOver() && lines.isOver())
  for (const { answer, error } of [events, lines]) {
    t.ok(answer.complete)
    t.equal(error(), undefined)
  }
  const parsed = parseEvents(events.text())
  t.match(parsed.at(-1), { event: /control|^$/ })
  t.match(lines.text(), /\n$/)
  for (const line of lines.text().split('\n')) if (line !== '') t.equal(JSON.parse(line).source, 'closing')
  await closed
  t.ok(performance.now() - started < 5_000, 'it does not wait for CLOSE_SECONDS')
  t.equal(own.app.feed.readers.used, 0)
})

// An EventSource does not connect again after any other status.
t.test('while the server closes, a stream of events is empty and ends, and the others are refused', async (t) => {
  const own = await createApp(t, { CLOSE_SECONDS: '600' }, database)
  const at = await listen(own.app)
  const taken: Socket[] = []
  own.app.server.on('connection', (socket) => void taken.push(socket))
  // Each request lacks its end when the server begins to close, so its connection stays open.
  const readers = [
    [EVENTS, {}],
    [POLL, {}],
    [LINES, NDJSON],
  ].map(([path, headers]) => {
    const reader = { socket: open(at, '127.0.0.1').setEncoding('utf8'), text: '', isOver: false }
    const { socket } = reader
    t.teardown(() => socket.destroy())
    socket.write(
      head('GET', path as string, { Authorization: `Bearer ${own.key}`, ...(headers as object) }).slice(0, -2),
    )
    socket
      .on('data', (chunk) => {
        reader.text += chunk
      })
      .on('end', () => {
        reader.isOver = true
      })
    return reader
  })
  await until('the requests', () => taken.length === 3 && taken.every(({ bytesRead }) => bytesRead > 0))
  const closed = own.app.close()
  await until('the end of listening', () => !own.app.server.listening)
  for (const { socket } of readers) socket.write('\r\n')
  await until('the end of all', () => readers.every(({ isOver }) => isOver))
  await closed
  const [events, ...others] = readers
  const [start = '', body = ''] = events?.text.split(/\r\n\r\n(.*)/s) ?? []
  t.match(start, /^HTTP\/1\.1 200 /)
  t.match(start, /^content-type: text\/event-stream/im)
  t.match(start, /^connection: close/im)
  t.same(parseEvents(body), [{ retry: '1000' }])
  for (const { text } of others) {
    t.match(text, /^HTTP\/1\.1 503 /)
    t.match(text, '"code":"draining"')
  }
})

// — readers that do not read —

t.test('readers that stop reading hold a bounded part of the memory, and are cut off', async (t) => {
  const own = await createApp(t, { STALL_SECONDS: '2' })
  const at = await listen(own.app)
  const db = connect(own.database.superUrl)
  t.teardown(() => db.destroy())
  await sql`SELECT sluice.current_epoch()`.execute(db)
  await sql`
    INSERT INTO sluice.records (epoch, xid, n, source, id, type, data)
    SELECT (SELECT max(epoch) FROM sluice.epochs), '5', n, 's', n, 't', to_json(repeat('x', 2000))
    FROM generate_series(1, 4000) AS n`.execute(db)
  const sockets: Socket[] = []
  own.app.server.on('connection', (socket) => void sockets.push(socket))
  const READERS = 4
  for (let n = 0; n < READERS; n++) {
    const socket = open(at, '127.0.0.1').on('error', () => {})
    t.teardown(() => socket.destroy())
    socket.pause().write(head('GET', EVENTS.replace('now', '-1'), { Authorization: `Bearer ${own.key}` }))
  }
  const used = () => own.app.feed.memory.used
  await until('all to be stuck', () => sockets.length === READERS && sockets.every((one) => one.writableLength > 0))
  await until('each to have a page', () => used() >= READERS * 100 * 1024)
  t.ok(used() <= READERS * 200 * 1024, `${used()} bytes: none has more than a page`)
  t.equal(await readersOf(own), READERS)
  await until('the end of all', () => sockets.every(({ destroyed }) => destroyed))
  await until('no reader', async () => (await readersOf(own)) === 0)
  t.equal(used(), 0)
  t.equal(own.app.responseMemory.used, 0)
})
