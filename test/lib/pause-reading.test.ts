import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import t from 'tap'
import { pauseReading, resumeReading } from '../../src/lib/pause-reading.ts'
import { head } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const POST = `${head('POST', '/', { 'Content-Length': '2' })}xx`

/** The moments of a request with a body at which reading is held. */
const moments: Record<string, (request: IncomingMessage, hold: () => void) => void> = {
  'when the request begins': (request, hold) => {
    hold()
    request.resume()
  },
  'before its body is read': (request, hold) => {
    request.resume()
    hold()
  },
  'during its body': (request, hold) => request.once('data', hold),
  'at the end of its body': (request, hold) => request.resume().once('end', hold),
  'after its body': (request, hold) => request.resume().once('end', () => setImmediate(hold)),
}

for (const [moment, start] of Object.entries(moments)) {
  t.test(`a connection that is held ${moment} is not read until each hold is released`, async (t) => {
    const requests = new Map<Socket, number>()
    const held = Promise.withResolvers<Socket>()
    // With a keep-alive timeout, Node.js would close the held connection after the response.
    const server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
      const { socket } = request
      const count = (requests.get(socket) ?? 0) + 1
      requests.set(socket, count)
      if (requests.size === 1 && count === 1) {
        start(request, () => {
          pauseReading(socket)
          pauseReading(socket)
          response.end()
          held.resolve(socket)
        })
      } else request.resume().once('end', () => response.end())
    }).listen(0, '127.0.0.1')
    t.teardown(() => server.close())
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const dial = () => {
      const socket = connect(port, '127.0.0.1')
      t.teardown(() => socket.destroy())
      return socket
    }

    const client = dial()
    client.write(POST)
    const socket = await held.promise
    await once(client, 'data')
    client.write(POST)
    /** Requests on another connection, enough of them for the server to read what has arrived on the first one. */
    const serveOthers = async () => {
      const other = dial()
      for (let n = 0; n < 20; n++) {
        other.write(POST)
        await once(other, 'data')
      }
    }
    await serveOthers()
    t.equal(requests.get(socket), 1)
    resumeReading(socket)
    await serveOthers()
    t.equal(requests.get(socket), 1, 'held twice, released once')
    resumeReading(socket)
    await until('the next request', () => requests.get(socket) === 2)
  })
}
