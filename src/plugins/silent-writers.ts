import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { endSilentWriters } from '../data/silent-writers.ts'
import { repeat } from '../lib/repeat.ts'

const LOOK_AGAIN_MS = 2_000

/**
 * How long a writer may keep PostgreSQL waiting. Amid a COPY: a flush is sent at once, and has some 20 MB at most; a network
 * that takes longer for it has it sent again as an INSERT, whose transaction begins when all of it has come. Between the
 * statements of a strict batch: the next statement has as many bytes, and there is no other way to send it.
 */
const SILENT_SECONDS = { amid: 5, between: 20 }

/** Each instance looks whether another one was lost amid a transaction, which would hold up the lists of all. */
export default fp(
  async function silentWriters(app: FastifyInstance) {
    async function look(): Promise<number> {
      try {
        for (const pid of await endSilentWriters(app.db.keys, SILENT_SECONDS))
          app.log.warn({ pid }, 'a writer was silent amid a transaction and held up lists: its connection was ended')
      } catch (err) {
        app.log.debug({ err }, 'silent writers could not be looked for')
      }
      return LOOK_AGAIN_MS
    }

    let stop = () => {}
    app.addHook('onReady', async () => {
      stop = repeat(look)
    })
    app.addHook('preClose', async () => stop())
  },
  { name: 'silent-writers', dependencies: ['database'] },
)
