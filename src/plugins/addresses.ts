import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { type AddressInfo, createServer, isIPv6, type Server } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

/** This machine does not have the address: /etc/hosts often lists ::1 although IPv6 is off. */
const ABSENT = new Set(['EADDRNOTAVAIL', 'EAFNOSUPPORT'])

/**
 * Listens on all addresses of `localhost`: 127.0.0.1, and often ::1. Fastify would make a second HTTP server, without what plugins
 * add to `app.server`: limits, timeouts, responses to what is not valid HTTP. Instead, connections to the second address are given
 * to `app.server` (https://nodejs.org/api/http.html#event-connection).
 *
 * It is registered last, so that `close` waits for these connections before it closes anything else.
 */
export default fp(
  async function addresses(app: FastifyInstance) {
    const others: Server[] = []

    app.decorate('listenOn', async (host, port, describe) => {
      const found = host === 'localhost' ? (await lookup(host, { all: true })).map(({ address }) => address) : [host]
      await app.listenOnAll([...new Set(found)], port, describe)
    })

    app.decorate('listenOnAll', async (hosts, port, describe = (url) => `Server listening at ${url}`) => {
      const { server } = app
      for (const [at, host] of hosts.entries()) {
        try {
          if (server.listening) await forward(host, (server.address() as AddressInfo).port, describe)
          else await app.listen({ host, port, listenTextResolver: describe })
        } catch (error) {
          const isNeeded = !server.listening && at === hosts.length - 1
          if (isNeeded || !ABSENT.has((error as NodeJS.ErrnoException).code ?? '')) throw error
        }
      }
      // Each address counts its own connections: see connections.ts.
      const share = Math.floor((server.maxConnections ?? 0) / (others.length + 1))
      if (share > 0) for (const one of [server, ...others]) one.maxConnections = share
    })

    async function forward(host: string, port: number, describe: (url: string) => string): Promise<void> {
      const { server } = app
      // The options of Node's HTTP server.
      const other = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => server.emit('connection', socket))
      other.on('drop', () => server.emit('drop'))
      other.listen({ host, port })
      await once(other, 'listening')
      others.push(other)
      app.log.info(describe(`http://${isIPv6(host) ? `[${host}]` : host}:${port}`))
    }

    let closed: Promise<unknown> = Promise.resolve()
    app.addHook('preClose', async () => {
      closed = Promise.all(others.map((other) => new Promise((resolve) => other.close(resolve))))
    })
    app.addHook('onClose', () => closed)
  },
  { name: 'addresses' },
)

declare module 'fastify' {
  interface FastifyInstance {
    /** Like `listen`, on all addresses of `localhost`. @param describe the line in the log for an address */
    listenOn(host: string, port: number, describe?: (url: string) => string): Promise<void>
    /** The same for a list of addresses. This machine must have one of them. */
    listenOnAll(addresses: string[], port: number, describe?: (url: string) => string): Promise<void>
  }
}
