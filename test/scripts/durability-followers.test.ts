import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { startFollowers } from '../../scripts/durability/followers.ts'
import { encodeOffset } from '../../src/lib/offset.ts'

// A server whose responses the test determines, instead of a feed.

const RECORDS = Array.from({ length: 9 }, (_, n) => ({
  specversion: '1.0',
  id: `${n}`,
  cursor: encodeOffset({ epoch: 1, xid: '7', n }),
}))
const LAST = RECORDS.at(-1)?.cursor as string
/** Long enough for a reader to read what it has got. */
const BREAK_MS = 50
const IDS = RECORDS.map(({ id }) => id)

interface FakeRequest {
  kind: string
  /** Where the reader continues. */
  offset: string
  /** How many requests of this kind there were before. */
  turn: number
}

/** Complete, but not JSON. */
const BROKEN: Record<string, string> = {
  ...{ pages: '[}', 'long-poll': '[}', lines: '{]\n', events: 'event: data\nid: 1\ndata: [}\n\n' },
}

/** The feed after an offset, in the form of each kind. */
function bodyOf({ kind, offset }: FakeRequest): string {
  const records = RECORDS.filter(({ cursor }) => cursor > offset)
  if (kind === 'lines') return records.map((record) => `\n${JSON.stringify(record)}\n`).join('')
  if (kind !== 'events') return JSON.stringify(records)
  const event = (name: string, id: string, data: unknown) =>
    `id:${id}\nevent: ${name}\ndata:${JSON.stringify(data)}\n\n`
  const events = records.map((record) => event('data', record.cursor, [record]) + event('control', record.cursor, {}))
  return `retry: 250\n\n${events.join(':\n\n')}`
}

async function follow(t: Test, answer: (request: FakeRequest, response: ServerResponse) => void) {
  const requests: FakeRequest[] = []
  const server = createServer(({ url, headers }: IncomingMessage, response) => {
    const query = new URL(url as string, 'http://localhost').searchParams
    const live = query.get('live')
    const kind = live === 'sse' ? 'events' : live === 'true' ? 'lines' : (live ?? 'pages')
    const offset = (headers['last-event-id'] as string | undefined) ?? (query.get('offset') as string)
    const request = { kind, offset, turn: requests.filter((other) => other.kind === kind).length }
    requests.push(request)
    response.setHeader('stream-next-offset', LAST)
    answer(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const followers = startFollowers({ port: () => port, key: 'key', source: 'source', quick: false })
  t.teardown(async () => {
    await followers.stop()
    server.closeAllConnections()
    server.close()
  })
  return { followers, requests }
}

t.test(
  'followers of each kind continue after a response that broke off, and count nothing that was incomplete',
  async (t) => {
    const { followers, requests } = await follow(t, (request, response) => {
      const body = bodyOf(request)
      const isStream = request.kind === 'events' || request.kind === 'lines'
      if (isStream ? request.offset !== '-1' : request.turn > 0) return void response.end(body)
      // A reader may lose what it has not read yet. Then it gets the same half again.
      response.write(body.slice(0, body.length / 2), () => setTimeout(() => response.destroy(), BREAK_MS))
    })
    await followers.caughtUp(LAST)
    await followers.stop()
    t.ok(followers.reconnects() > 0)
    for (const { name, wrong } of followers.observers) t.same(wrong, [], name)
    const seen = Object.fromEntries(followers.observers.map(({ name, shown }) => [name, shown.map(({ id }) => id)]))
    t.same(seen, { pages: IDS, 'long-poll': IDS, events: IDS, lines: IDS })
    for (const kind of ['events', 'lines'])
      t.ok(
        requests.some((one) => one.kind === kind && IDS.slice(2, 6).includes(idAt(one.offset))),
        `${kind}: from the middle`,
      )
  },
)

t.test('a refusal that no outage explains is kept, and one with 503 is not', async (t) => {
  const { followers } = await follow(t, (request, response) => {
    // Not by the number of requests, because a reader may give one up at any moment.
    const kept = followers.observers.find(({ name }) => name === request.kind)?.wrong.length
    if (request.turn === 0) response.writeHead(503).end('later')
    else if (kept === 0) response.writeHead(400).end('no')
    else if (kept === 1) response.end(BROKEN[request.kind])
    else response.end(bodyOf(request))
  })
  await followers.caughtUp(LAST)
  for (const { name, wrong } of followers.observers) t.match(wrong, ['400: no', /JSON/], name)
})

const idAt = (offset: string) => RECORDS.find(({ cursor }) => cursor === offset)?.id ?? ''
