import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { KINDS, type Kind, START } from '../../scripts/durability/feed-kinds.ts'
import { FeedFollower } from '../../scripts/durability/model/feed-follower.ts'
import { History } from '../../scripts/durability/model/history.ts'
import { Random } from '../../scripts/durability/model/random.ts'

// A server whose responses the test determines, instead of a feed. What a follower judges by itself; durability-model.test.ts is about the rest.

const RECORD = { source: 'model/kept/a', id: '1', type: 'x', time: 'T', receivedAt: 'T', cursor: 'c1' }
const ROW = { identity: 'model/kept/a 1', cursor: 'c1', digest: '' }
const PATIENCE_MS = 10_000

/**
 * Follows a feed of one record to its end.
 * @param answer answers a request, and returns true, as long as it has something other than the feed to say
 */
async function follow(t: Test, kind: Kind, answer: (history: History, response: ServerResponse) => boolean) {
  const history = new History()
  history.of(ROW.identity)
  const server = createServer((_, response) => {
    if (!answer(history, response)) show(response, kind, JSON.stringify(RECORD), RECORD.cursor)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const options = { history, kind, random: new Random(1), key: 'key', known: new Map() }
  const follower = new FeedFollower({ ...options, port: () => port })
  await follower.finish([ROW], PATIENCE_MS)
  follower.judge([ROW])
  return history
}

function show(response: ServerResponse, { name }: Kind, record: string, next: string): true {
  const event = `event: data\nid: ${next}\ndata: [${record}]\n\n`
  response.setHeader('stream-next-offset', next)
  response.end(name === 'lines' ? `${record}\n` : name === 'events' ? event : `[${record}]`)
  return true
}

function refuse(response: ServerResponse, status: number, code: string): true {
  const headers = { 'content-type': 'application/problem+json', 'retry-after': '1' }
  const problem = { status, code, retryable: status === 503, outcome: 'not_written' }
  response.writeHead(status, headers).end(JSON.stringify(problem))
  return true
}

for (const kind of KINDS) {
  t.test(`${kind.name}: a follower tries again after a 503, and sees the record`, async (t) => {
    let refusals = 0
    const history = await follow(t, kind, (_, response) => refusals++ < 3 && refuse(response, 503, 'draining'))
    t.same(history.findings, [])
    t.match(history.of(ROW.identity).sightings, [{ by: kind.name, cursor: ROW.cursor }])
  })

  t.test(
    `${kind.name}: a refusal that no outage explains is found, and so is a record that cannot be read`,
    async (t) => {
      const history = await follow(t, kind, ({ findings }, response) => {
        // Not by the number of requests, because a follower may give one up at any moment.
        if (findings.length === 0) return refuse(response, 404, 'not_found')
        if (findings.length === 1) return refuse(response, 503, 'not_found')
        return findings.length === 2 && show(response, kind, '{]', START)
      })
      t.same(
        history.findings.map(({ rule }) => rule),
        [
          'The feed may refuse a follower only with 503.',
          'The code of a refusal must match its status.',
          'A response to a read must be valid JSON.',
        ],
      )
    },
  )
}
