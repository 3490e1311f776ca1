import t, { type Test } from 'tap'
import { createApp } from '../helpers/app.ts'
import { openClient } from '../helpers/http.ts'
import { openReader } from '../helpers/live-reader.ts'
import { isProblem } from '../helpers/problem.ts'
import { listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const EVENTS = '/v1/feed?live=sse&offset=now'
const LINES = '/v1/feed?live=true&offset=now'
/** With the memory below, one key has half of it for its requests: 51 of them. */
const READERS = 48

/** A server with little memory, and as many waiting readers of one key as it can have. */
async function openServer(t: Test) {
  const server = await createApp(t, { UNREAD_MAX_BYTES: String(1024 * 1024), CLOSE_SECONDS: '600' })
  const port = await listen(server.app)
  const open = (path: string, accept = '*/*') => openReader(t, port, server.key, path, { accept })
  const readers = await Promise.all(Array.from({ length: READERS - 1 }, () => open(EVENTS)))
  readers.push(await open(LINES, 'application/x-ndjson'))
  await until('the first events', () => readers.every(({ text }) => text() !== ''))
  const store = async (name: string) => {
    const records = Array.from({ length: 100 }, (_, n) => ({
      source: 's',
      type: 't',
      id: `${name}-${n}`,
      data: 'x'.repeat(200),
    }))
    if ((await server.post(records)).status !== 201) throw new Error('not stored')
  }
  return { ...server, port, readers, store }
}

// Their pages shared the memory of their requests: with that in use, all waited for memory that none of them released.
t.test('with little memory, each of many readers of one key gets each record', async (t) => {
  const { readers, store, app } = await openServer(t)
  for (const name of ['first', 'second']) {
    await store(name)
    await until('the last record', () => readers.every(({ text }) => text().includes(`"${name}-99"`)))
  }
  t.equal(app.feed.memory.used, 0)
})

// Only those of compressed pages took memory, if the watcher had the records: clients that stall had any number of pages.
t.test('with little memory, a long-poll is answered within its timeout', async (t) => {
  const { port, key, store, readers } = await openServer(t)
  const poll = async (query: string) => {
    const started = performance.now()
    const answer = await openClient(t, port, key).send('GET', `/v1/feed?live=long-poll&timeout=1&${query}`)
    t.ok(performance.now() - started < 3_000, query)
    return answer
  }
  t.equal((await poll('offset=now')).status, 204)
  await store('first')
  await until('the records', () => readers.every(({ text }) => text().includes('"first-99"')))
  t.match(await poll('offset=-1&limit=2'), { status: 200, json: [{ id: 'first-0' }, { id: 'first-1' }] })
  const refused = await poll('offset=-1')
  isProblem(t, refused, 'overloaded')
  t.match(refused.headers['retry-after'], /^\d+$/)
})

/** Uses all memory for pages, stores records, and waits until the readers wait for memory. @returns a function to release it */
async function exhaust({ app, get, readers, store }: Awaited<ReturnType<typeof openServer>>) {
  const hold = app.feed.memory.openReservation('another key')
  hold(app.feed.memory.max)
  const { headers } = await get('/v1/feed?offset=now')
  const polled = get(`/v1/feed?live=long-poll&offset=${headers['stream-next-offset']}&limit=1`)
  await until('the long-poll', () => app.feed.readers.used === READERS + 1)
  await store('held')
  // The watcher wakes all readers together.
  if ((await polled).status !== 200) throw new Error('no record')
  if (readers.some(({ text }) => text().includes('held'))) throw new Error('no reader waits')
  return () => hold(0)
}

t.test('readers that wait for memory continue when it is free', async (t) => {
  const server = await openServer(t)
  const release = await exhaust(server)
  release()
  await until('the records', () => server.readers.every(({ text }) => text().includes('"held-99"')))
  t.equal(server.app.feed.memory.used, 0)
})

t.test('a server that closes ends the readers that wait for memory', async (t) => {
  const server = await openServer(t)
  const { app, readers } = server
  await exhaust(server)
  const started = performance.now()
  await app.close()
  t.ok(performance.now() - started < 5_000, 'it does not wait for CLOSE_SECONDS')
  await until('the end of all', () => readers.every(({ isOver }) => isOver()))
  for (const { answer, error } of readers) {
    t.ok(answer.complete)
    t.equal(error(), undefined)
  }
})
