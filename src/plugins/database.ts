import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { connect, poolStatus, type Query } from '../data/connect.ts'
import type { Database } from '../data/schema.ts'
import { WRITERS } from '../data/silent-writers.ts'
import { tellPools } from '../metrics/pools.ts'

/**
 * Logins that a flush may have under way: one a try, since a try does not wait for the login of the one before, which may
 * never be answered. More than one of them is in use only after such an outage, for ten seconds.
 */
const LOGINS = 3

/**
 * How long a flush waits for one. When the network loses what is sent, only another try can notice that it works again.
 * Who reads is told of it instead, and so waits longer: a machine that is merely busy should not cost an answer.
 */
const LOGIN_MS = 1_000

/**
 * Pools of their own for writing and reading, so that slow reads cannot keep a flush from its connection; for keys, so
 * that they cannot keep a revoked one alive; and for lists, where a standby is to answer them. None connects before it is
 * used.
 */
export default fp(
  async function database(app: FastifyInstance, { config }: { config: Config }) {
    const onError = (err: Error) => app.log.warn({ err }, 'a connection to the database broke')
    const { traces } = app
    const onQuery = traces && ((query: Query) => traces.noteQuery(query))
    const url = config.DATABASE_URL as string

    const write = connect({
      url,
      name: WRITERS,
      connections: config.FLUSH_CONCURRENCY * LOGINS,
      statementTimeoutMs: 0,
      prepare: true,
      watched: true,
      loginMs: LOGIN_MS,
      onError,
      onQuery,
    })
    const forReading = {
      name: 'sluice-read',
      connections: config.READ_CONNECTIONS,
      statementTimeoutMs: config.READ_TIMEOUT_SECONDS * 1000,
      watched: true,
      onError,
      onQuery,
    }
    const read = connect({ ...forReading, url })
    const keys = connect({ ...forReading, name: 'sluice-keys', connections: 1, url })
    // "Did it land?", keys and migrations are asked of the primary always: a standby does not know yet.
    const list =
      config.DATABASE_READ_URL === undefined ? read : connect({ ...forReading, url: config.DATABASE_READ_URL })

    app.decorate('db', { write, read, keys, list })
    const pools = { write, read, keys, ...(list === read ? {} : { list }) }
    tellPools(
      app.metrics,
      Object.entries(pools).map(([pool, db]) => ({ pool, status: () => poolStatus(db) })),
    )
    app.addHook('onClose', async () => {
      await Promise.all([...new Set([write, read, keys, list])].map((db) => db.destroy()))
    })
  },
  { name: 'database', dependencies: ['metrics', 'tracing'] },
)

declare module 'fastify' {
  interface FastifyInstance {
    db: Record<'write' | 'read' | 'keys' | 'list', Database>
  }
}
