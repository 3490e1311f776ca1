import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { startNginx } from '../helpers/nginx.ts'
import { missing } from '../helpers/skipping.ts'

// By default, nginx buffers responses, uses HTTP/1.0 to the server, and closes a connection on which nothing arrives for a while: 60
// seconds, and here less.
const IDLE_SECONDS = 10

t.test(
  'a live reader behind nginx gets records at once, and stays connected when there are none',
  { skip: missing('nginx') },
  async (t) => {
    const { app, key, post } = await createApp(t)
    await app.listen({ port: 0 })
    const { port } = app.server.address() as AddressInfo
    const socketPath = await startNginx(t, port, `proxy_read_timeout ${IDLE_SECONDS}s;`)
    const open = async (live: string, accept: string) => {
      const headers = { authorization: `Bearer ${key}`, accept }
      const request = get({ socketPath, path: `/v1/feed?offset=now&live=${live}`, headers })
      t.teardown(() => request.destroy())
      const [response] = (await once(request, 'response')) as [IncomingMessage]
      t.equal(response.statusCode, 200, live)
      return response.setEncoding('utf8')
    }
    const readers = [await open('sse', '*/*'), await open('true', 'application/x-ndjson')]
    const untilAll = (text: string) =>
      Promise.all(
        readers.map(async (reader) => {
          for (let seen = ''; !seen.includes(text); ) seen += (await once(reader, 'data'))[0]
        }),
      )
    const first = untilAll('"id":"1"')
    await post({ source: 'shop', type: 't', id: '1' })
    await first

    // Silence that nginx would not accept: two comments after eight seconds each.
    const begin = performance.now()
    let comments = 0
    while (comments < 2) {
      await Promise.all(readers.map((reader) => once(reader, 'data')))
      comments++
    }
    t.ok(performance.now() - begin > IDLE_SECONDS * 1000, 'nothing else was sent')
    const second = untilAll('"id":"2"')
    await post({ source: 'shop', type: 't', id: '2' })
    await second
  },
)
