/** Clients that others wrote follow the feed unmodified, while the server and PostgreSQL are restarted. */
import { join } from 'node:path'
import { stream } from '@durable-streams/client'
import { EventSource } from 'eventsource'
import t from 'tap'
import { openPostgres } from '../../scripts/durability/postgres.ts'
import { freePort, type Server, startServer, stopServers } from '../../scripts/durability/server.ts'
import { FAST, ownFolder } from '../helpers/own-server.ts'
import { until } from '../helpers/until.ts'

const RECORDS = 100_000
/** Records of one request. */
const BATCH = 5_000

const folder = await ownFolder(t)
const postgres = await openPostgres(folder, FAST)
t.teardown(() => postgres.close())
t.teardown(stopServers)
const port = await freePort()
const url = `http://127.0.0.1:${port}/v1`
const headers = { authorization: `Bearer ${postgres.key}` }
let server = await start()

function start(): Promise<Server> {
  const env = { DATABASE_URL: postgres.apiUrl, DRAIN_SECONDS: '0', OUTAGE_HOLD_SECONDS: '120' }
  return startServer({ port, env, log: join(folder, 'server.log') })
}

async function restartServer(signal: NodeJS.Signals): Promise<void> {
  server.signal(signal)
  await server.exit
  server = await start()
}

/** Stores records whose ids are the numbers up to `count`. Resending is safe. */
async function store(source: string, count: number): Promise<void> {
  for (let first = 1; first <= count; first += BATCH) {
    const batch = Array.from({ length: Math.min(BATCH, count - first + 1) }, (_, index) => ({
      source,
      type: 't',
      id: String(first + index),
    }))
    const body = JSON.stringify(batch)
    const request = { method: 'POST', headers: { ...headers, 'content-type': 'application/json' }, body }
    await until('the batch to be stored', async () => {
      const response = await fetch(`${url}/records`, request).catch(() => undefined)
      await response?.text()
      return response?.ok === true
    })
  }
}

/** How often each id was seen. */
class Seen {
  readonly ids: string[] = []
  readonly unique = new Set<string>()

  add(records: readonly { id: string }[]): void {
    for (const { id } of records) {
      this.ids.push(id)
      this.unique.add(id)
    }
  }
}

/** Follows a source until `signal` aborts. A broken stream of events ends the client's session; then it continues after the last batch. */
async function follow(source: string, live: 'long-poll' | 'sse', seen: Seen, signal: AbortSignal): Promise<void> {
  for (let offset = '-1'; !signal.aborted; ) {
    const backoffOptions = { initialDelay: 20, maxDelay: 200, multiplier: 1.5 }
    const response = await stream<{ id: string }>({
      url: `${url}/feed?source=${source}`,
      headers,
      offset,
      live,
      signal,
      backoffOptions,
    })
    response.subscribeJson(async (batch) => {
      seen.add(batch.items)
      offset = batch.offset
    })
    await response.closed.catch(() => {})
  }
}

t.test(`the client of Durable Streams gets each of ${RECORDS} records once, in both live modes`, async (t) => {
  const modes = (['long-poll', 'sse'] as const).map((live) => ({ live, seen: new Seen() }))
  const end = new AbortController()
  const following = modes.map(({ live, seen }) => follow('client', live, seen, end.signal))
  const untilSeen = (count: number) =>
    until(`${count} records`, () => modes.every(({ seen }) => seen.unique.size >= count))
  const storing = store('client', RECORDS)
  await untilSeen(RECORDS / 10)
  await restartServer('SIGTERM')
  await untilSeen(RECORDS / 3)
  await postgres.restart('immediate')
  await untilSeen(RECORDS / 2)
  await restartServer('SIGKILL')
  await storing
  await untilSeen(RECORDS)
  end.abort()
  await Promise.all(following)
  for (const { live, seen } of modes) t.equal(seen.ids.length, RECORDS, `${live}: none twice`)
})

t.test(
  'a hundred readers that wait while PostgreSQL is killed get the next record, in the same response',
  async (t) => {
    const end = new AbortController()
    t.teardown(() => end.abort())
    const forms = [
      { live: 'sse', accept: 'text/event-stream' },
      { live: 'true', accept: 'application/x-ndjson' },
    ]
    const open = async ({ live, accept }: { live: string; accept: string }) => {
      const query = `source=killed&offset=now&live=${live}`
      const response = await fetch(`${url}/feed?${query}`, { headers: { ...headers, accept }, signal: end.signal })
      const reader = { live, status: response.status, text: '' }
      const read = async () => {
        for await (const text of (response.body as ReadableStream).pipeThrough(new TextDecoderStream()))
          reader.text += text
      }
      void read().catch(() => {})
      return reader
    }
    const readers = await Promise.all(Array.from({ length: 50 }, () => forms.map(open)).flat())
    await until('the readers to wait', () => readers.every(({ text }) => text !== ''))
    await postgres.restart('immediate')
    await store('killed', 1)
    await until('the record', () => readers.every(({ text }) => text.includes('"id":"1"')))
    for (const { live, status, text } of readers) t.same([status, text.split('"id":"1"').length - 1], [200, 1], live)
  },
)

t.test('an EventSource continues after a restart, without an offset of its own', async (t) => {
  const seen = new Seen()
  const source = new EventSource(`${url}/feed?source=browser&live=sse&offset=now`, {
    fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...headers } }),
  })
  t.teardown(() => source.close())
  source.addEventListener('data', ({ data }) => seen.add(JSON.parse(data)))
  await new Promise((resolve) => source.addEventListener('control', resolve, { once: true }))
  await store('browser', 10)
  await until('ten records', () => seen.unique.size === 10)
  const reconnected = new Promise((resolve) => source.addEventListener('open', resolve, { once: true }))
  await restartServer('SIGTERM')
  await store('browser', 20)
  await reconnected
  await until('twenty records', () => seen.unique.size === 20)
  t.equal(seen.ids.length, 20, 'none twice')
})
