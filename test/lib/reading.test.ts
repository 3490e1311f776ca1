import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import t from 'tap'
import { holdReading, releaseReading } from '../../src/lib/reading.ts'
import { head } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const POST = `${head('POST', '/', { 'Content-Length': '2' })}xx`

/** When, in the life of a request with a body, the reading is held. */
const moments: Record<string, (request: IncomingMessage, hold: () => void) => void> = {
  'when the request begins': (request, hold) => {
    hold()
    request.resume()
  },
  'before its body is read': (request, hold) => {
    request.resume()
    hold()
  },
  'amid its body': (request, hold) => request.once('data', hold),
  'at its end': (request, hold) => request.resume().once('end', hold),
  'after it': (request, hold) => request.resume().once('end', () => setImmediate(hold)),
}

for (const [moment, begin] of Object.entries(moments)) {
  t.test(`a connection that is held ${moment} is not read until it is released as often`, async (t) => {
    const begun = new Map<Socket, number>()
    const held = Promise.withResolvers<Socket>()
    // Node.js closes a connection on which it reads nothing after an answer.
    const server = createServer({ keepAliveTimeout: 0 }, (request, response) => {
      const { socket } = request
      const count = (begun.get(socket) ?? 0) + 1
      begun.set(socket, count)
      if (begun.size === 1 && count === 1) {
        begin(request, () => {
          holdReading(socket)
          holdReading(socket)
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
    /** Anybody else is served meanwhile, often enough for the server to read what came. */
    const serveOthers = async () => {
      const other = dial()
      for (let n = 0; n < 20; n++) {
        other.write(POST)
        await once(other, 'data')
      }
    }
    await serveOthers()
    t.equal(begun.get(socket), 1)
    releaseReading(socket)
    await serveOthers()
    t.equal(begun.get(socket), 1, 'released once, and held twice')
    releaseReading(socket)
    await until('the next request', () => begun.get(socket) === 2)
  })
}
