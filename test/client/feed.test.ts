import t, { type Test } from 'tap'
import { followFeed } from '../../src/client/feed.ts'
import { startStub } from '../helpers/proxy.ts'
import { cursorOf, feedLine, sendPage } from '../helpers/tail.ts'

/** Follows a stub. @returns the pages, and the queries of the requests */
async function follow(
  t: Test,
  respond: (...[response, request]: [Parameters<typeof sendPage>[0], number]) => void,
  options: { limit: number; filter?: Parameters<typeof followFeed>[0]['filter'] },
) {
  const queries: string[] = []
  const url = await startStub(t, (request, response) => {
    queries.push(decodeURIComponent(request.url?.split('?')[1] ?? ''))
    respond(response, queries.length)
  })
  const { signal } = new AbortController()
  const following = { server: { url, token: 'k' }, after: '-1', filter: {}, stop: signal, ...options }
  const pages = await Array.fromAsync(followFeed({ ...following, attempt: (work) => work() }))
  return { pages, queries }
}

t.test(
  'it reads pages up to the end of the feed, long-polls there, and reads pages again if it falls behind',
  async (t) => {
    const { pages, queries } = await follow(
      t,
      (response, request) => {
        if (request === 3)
          response.writeHead(204, { 'stream-next-offset': cursorOf(7), 'stream-up-to-date': 'true' }).end()
        else sendPage(response, [request], request, request === 2)
      },
      { limit: 4 },
    )
    t.same(queries, [
      'offset=-1&limit=4',
      `offset=${cursorOf(1)}&limit=3`,
      `offset=${cursorOf(2)}&limit=2&live=long-poll`,
      `offset=${cursorOf(7)}&limit=2&live=long-poll`,
      `offset=${cursorOf(4)}&limit=1`,
    ])
    t.same(
      pages.map(({ records }) => records.length),
      [1, 1, 0, 1, 1],
    )
  },
)

t.test('the filter is in each request, and no page is larger than the server allows', async (t) => {
  const filter = { source: 'a&b', type: ['x', 'y z'], subject: 's' }
  const { queries } = await follow(t, (response) => sendPage(response, [1, 2], 2), { limit: 2, filter })
  t.same(queries, ['source=a&b&subject=s&type=x&type=y+z&offset=-1&limit=2'])
  const { queries: all } = await follow(
    t,
    (response, request) => sendPage(response, request === 1 ? Array.from({ length: 1000 }, (_, n) => n) : [1], 2),
    { limit: 1001 },
  )
  t.match(all, [/limit=1000$/, /limit=1&live/])
})

t.test('records keep their text', async (t) => {
  const data = '{ "n" : 12345678901234567890, "[" : ["]", {"}": "\\"{"}] , "cursor":"no" }'
  const { pages } = await follow(t, (response) => sendPage(response, [1, 2], 2, true, data), { limit: 2 })
  t.same(
    pages[0]?.records,
    [1, 2].map((n) => ({ text: feedLine(n, data), cursor: cursorOf(n) })),
  )
})
