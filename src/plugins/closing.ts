import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'

const CUT_IDLE_MS = 50
/** For lines that were told to end: the chunks at the database, and the answer. */
const LAST_ANSWERS_MS = 5_000

/**
 * Ends connections while the server closes. What is in flight is answered; lines that go on, and readers who stopped
 * reading, would keep the process from ever ending, and so have CLOSE_SECONDS.
 */
export default fp(
  async function closing(app: FastifyInstance, { config }: { config: Config }) {
    const overdue = new AbortController()
    const timers: NodeJS.Timeout[] = []
    app.decorate('overdue', overdue.signal)
    app.addHook('preClose', async () => {
      const closeMs = config.CLOSE_SECONDS * 1000
      timers.push(
        // Fastify cuts idle connections once, when the server begins to close. One that was busy then would be kept alive
        // after its answer, for a request that never comes: 72 seconds (Fastify, keepAliveTimeout).
        setInterval(() => app.server.closeIdleConnections(), CUT_IDLE_MS),
        setTimeout(() => overdue.abort(), closeMs),
        setTimeout(() => app.server.closeAllConnections(), closeMs + LAST_ANSWERS_MS),
      )
    })
    app.addHook('onClose', async () => timers.forEach(clearTimeout))
  },
  { name: 'closing' },
)

declare module 'fastify' {
  interface FastifyInstance {
    /** Aborted when the server closes, and what is still in flight has to end. */
    overdue: AbortSignal
  }
}
