import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { cutConnections } from '../data/connect.ts'
import { Problem } from '../lib/problems.ts'

const LOOK_MS = 50
/**
 * After this many looks (one second) without a byte, a sender has nothing to send: the gaps in an upload on a bad line are
 * shorter. Looks, since a process that stood still for a second has not read what came meanwhile.
 */
const QUIET_LOOKS = 20
/** For uploads that were ended: what is at the database, for which the writer waits two seconds, and the answer. */
const LAST_ANSWERS_MS = 5_000

interface Upload {
  body: IncomingMessage
  end: (why: Problem) => void
  /** What had come on the connection at the last look, and for how many looks nothing more has. */
  bytesRead: number
  quiet: number
}

/**
 * Ends connections while the server closes. What is in flight has CLOSE_SECONDS. Then uploads that still go on are
 * answered 503, and readers who still read are cut. An upload of which nothing comes is not waited for: a stream of
 * lines whose sender has nothing to send could go on for ever, and would keep the process for CLOSE_SECONDS each time.
 */
export default fp(
  async function closing(app: FastifyInstance, { config }: { config: Config }) {
    const timers: NodeJS.Timeout[] = []
    const sockets = new Set<Socket>()
    const uploads = new Set<Upload>()
    app.server.on('connection', (socket: Socket) => {
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
    })
    app.decorate('endOnClose', (body, end) => {
      const upload = { body, end, bytesRead: -1, quiet: 0 }
      uploads.add(upload)
      return () => uploads.delete(upload)
    })

    app.addHook('preClose', async () => {
      const closeMs = config.CLOSE_SECONDS * 1000
      timers.push(
        setInterval(look, LOOK_MS),
        setTimeout(endAll, closeMs),
        setTimeout(cutAll, closeMs + LAST_ANSWERS_MS),
      )
    })
    app.addHook('onClose', async () => timers.forEach(clearTimeout))

    function look(): void {
      // Fastify cuts idle connections once, when the server begins to close. One that was busy then would be kept alive
      // after its answer, for a request that never comes: 72 seconds (Fastify, keepAliveTimeout).
      app.server.closeIdleConnections()
      for (const upload of uploads) {
        const { body, end } = upload
        const { bytesRead } = body.socket
        // What is there and not taken yet: the sender waits for us.
        const moves = bytesRead > upload.bytesRead || body.readableLength > 0 || body.complete
        upload.bytesRead = bytesRead
        upload.quiet = moves ? 0 : upload.quiet + 1
        if (upload.quiet > QUIET_LOOKS) end(drainingQuiet())
      }
    }

    function endAll(): void {
      for (const { end } of uploads) end(draining())
      // What waits for the database is answered as well: that it is not, or may be, stored.
      app.writer.giveUp()
    }

    function cutAll(): void {
      if (sockets.size > 0)
        app.log.warn({ connections: sockets.size }, 'the server closes: the last connections are cut')
      // Reset, not closed: in HTTP/1.0 the end of the connection is the end of the answer, and half of an export would look
      // complete.
      for (const socket of sockets) socket.resetAndDestroy()
      // All are answered by now. A statement that waits for a lock would still keep the process, for as long as the lock is held.
      cutConnections(app.db.write)
    }
  },
  { name: 'closing' },
)

const DETAIL = 'This instance is shutting down; send the request again.'
/** Leaves the connection open: to close it while the sender still sends would lose the answer (RFC 9112, section 9.6). */
const draining = () => new Problem('draining', DETAIL)
/** Closes it after the answer, or the rest of the body would be waited for. */
const drainingQuiet = () => new Problem('draining', DETAIL, { headers: { connection: 'close' } })

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * Calls `end`, perhaps more than once, when the server closes and an upload has to end.
     * @returns a function to call when the upload is over
     */
    endOnClose(body: IncomingMessage, end: (why: Problem) => void): () => void
  }
}
