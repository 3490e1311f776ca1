import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { endSilentWriters } from '../data/silent-writers.ts'
import { repeat } from '../lib/repeat.ts'

const CHECK_MS = 2_000

/**
 * How long a writer may keep PostgreSQL waiting. `amid`: within a COPY. A flush is sent at once and has at most about 20 MB. If
 * the network takes longer, the flush is sent again as an INSERT, whose transaction begins only when all of it has arrived.
 * `between`: between two statements of a strict batch. The next one has as many bytes, and no other way to send it exists.
 */
const SILENT_SECONDS = { amid: 5, between: 20 }

/** Each instance checks whether another one was lost during a transaction, which would hold up the lists of all instances. */
export default fp(
  async function silentWriters(app: FastifyInstance) {
    async function check(): Promise<number> {
      try {
        for (const pid of await endSilentWriters(app.db.keys, SILENT_SECONDS))
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
  { name: 'silent-writers', dependencies: ['database'] },
)
