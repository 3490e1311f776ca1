import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { endStalledWriters } from '../data/stalled-writers.ts'
import { repeat } from '../lib/repeat.ts'

const CHECK_MS = 2_000

/**
 * How long a writer may keep PostgreSQL waiting during a COPY, and between two statements of a strict batch. The rows of a flush
 * are sent at once and have at most about 20 MB. If a COPY takes longer, they are sent again in an INSERT, whose transaction begins
 * only when all of it has arrived. The next statement of a strict batch has as many bytes, and no other way to send it exists.
 */
const STALL_LIMIT_SECONDS = { during: 5, between: 20 }

/** Each instance checks whether another one was lost during a transaction, which would hold up the lists of all instances. */
export default fp(
  async function stalledWriters(app: FastifyInstance) {
    async function check(): Promise<number> {
      try {
        for (const pid of await endStalledWriters(app.db.keys, STALL_LIMIT_SECONDS))
          app.log.warn({ pid }, 'a writer stalled during a transaction and held up lists: its connection was closed')
      } catch (err) {
        app.log.debug({ err }, 'the check for stalled writers failed')
      }
      return CHECK_MS
    }

    let stop = () => {}
    app.addHook('onReady', async () => {
      stop = repeat(check)
    })
    app.addHook('preClose', async () => stop())
  },
  { name: 'stalled-writers', dependencies: ['database'] },
)
