import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { cutConnections } from '../postgres/connect.ts'
import { Problem } from '../problems.ts'

const CHECK_MS = 50
/**
 * After this many checks (one second) without a byte, a sender counts as idle: the gaps in an upload over a bad line are
 * shorter. Checks are counted, not time: a process that was stopped for a second has not read what arrived meanwhile.
 */
const IDLE_CHECKS = 20
/** After uploads are ended: the time for their running flushes (the writer waits two seconds for those) and for their responses. */
const LAST_RESPONSES_MS = 5_000

interface Upload {
  body: IncomingMessage
  end: (why: Problem) => void
  /** Bytes that the connection had received at the last check. */
  bytesRead: number
  /** Checks in a row that found no activity. */
  idleChecks: number
}

/**
 * Ends connections while the server closes. Requests in flight have CLOSE_SECONDS. Then uploads that still run get 503, and
 * after a few more seconds all other connections are cut off. The server does not wait for idle uploads: a stream of lines
 * whose sender has nothing to send could last forever, and would keep the process alive for CLOSE_SECONDS each time. Nor does it
 * wait longer than a second for the first byte of a connection.
 */
export default fp(
  async function closing(app: FastifyInstance) {
    const { config } = app
    const timers: NodeJS.Timeout[] = []
    const sockets = new Set<Socket>()
    const uploads = new Set<Upload>()
    let checks = 0
    app.server.on('connection', (socket: Socket) => {
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
    })
    app.decorate('endOnClose', (body, end) => {
      const upload = { body, end, bytesRead: -1, idleChecks: 0 }
      uploads.add(upload)
      return () => uploads.delete(upload)
    })

    app.addHook('preClose', async () => {
      const closeMs = config.CLOSE_SECONDS * 1000
      timers.push(
        setInterval(check, CHECK_MS),
        setTimeout(endUploads, closeMs),
        setTimeout(cutOffAll, closeMs + LAST_RESPONSES_MS),
      )
    })
    app.addHook('onClose', async () => timers.forEach(clearTimeout))

    function check(): void {
      // Fastify closes idle connections only once, when the server begins to close. One that was busy then would stay open
      // for 72 seconds after its response (Fastify, keepAliveTimeout).
      app.server.closeIdleConnections()
      // Browsers open connections in advance. For Node.js, one that has never sent a request is not idle.
      if (++checks > IDLE_CHECKS) for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy()
      for (const upload of uploads) {
        const { body, end } = upload
        const { bytesRead } = body.socket
        // If received bytes have not been read yet, the sender waits for the server.
        const isActive = bytesRead > upload.bytesRead || body.readableLength > 0 || body.complete
        upload.bytesRead = bytesRead
        upload.idleChecks = isActive ? 0 : upload.idleChecks + 1
        if (upload.idleChecks > IDLE_CHECKS) end(drainingIdle())
      }
    }

    function endUploads(): void {
      for (const { end } of uploads) end(draining())
      // Requests that wait for the database get a response too: it says whether their records may be stored.
      app.writer.giveUp()
    }

    function cutOffAll(): void {
      if (sockets.size > 0)
        app.log.warn({ connections: sockets.size }, 'the server closes: the last connections are cut off')
      for (const socket of sockets) socket.destroy()
      // All requests have their responses by now. A statement that waits for a lock would still keep the process alive.
      cutConnections(app.db.write)
    }
  },
  { name: 'closing' },
)

const DETAIL = 'This instance is shutting down; send the request again.'
/** Leaves the connection open: closing it while the sender still sends would lose the response (RFC 9112, section 9.6). */
const draining = () => new Problem('draining', DETAIL)
/** Closes the connection after the response. Otherwise the server would wait for the rest of the body. */
const drainingIdle = () => new Problem('draining', DETAIL, { headers: { connection: 'close' } })

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * Calls `end`, perhaps more than once, when the server closes and the upload must end.
     * @returns a function to call when the upload is over
     */
    endOnClose(body: IncomingMessage, end: (why: Problem) => void): () => void
  }
}
