import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { connect } from '../data/connect.ts'
import type { Database } from '../data/schema.ts'

/** Two pools, so that slow reads cannot keep a flush from its connection. Neither connects before it is used. */
export default fp(
  async function database(app: FastifyInstance, { config }: { config: Config }) {
    const onError = (err: Error) => app.log.warn({ err }, 'a connection to the database broke')
    const url = config.DATABASE_URL as string

    const write = connect({
      url,
      name: 'sluice-write',
      connections: config.FLUSH_CONCURRENCY,
      statementTimeoutMs: 0,
      prepare: true,
      onError,
    })
    const read = connect({
      url,
      name: 'sluice-read',
      connections: config.READ_CONNECTIONS,
      statementTimeoutMs: config.READ_TIMEOUT_SECONDS * 1000,
      onError,
    })

    app.decorate('db', { write, read })
    app.addHook('onClose', async () => {
      await Promise.all([write.destroy(), read.destroy()])
    })
  },
  { name: 'database' },
)

declare module 'fastify' {
  interface FastifyInstance {
    db: { write: Database; read: Database }
  }
}
