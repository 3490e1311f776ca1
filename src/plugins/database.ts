import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { connect, poolStatus, type Query } from '../data/connect.ts'
import type { Database } from '../data/schema.ts'
import { WRITERS } from '../data/silent-writers.ts'
import { Turnstile } from '../lib/turnstile.ts'
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
 * Connections that answer "did it land?". Such a read is a matter of a millisecond, and must not wait for lists, which may
 * take seconds. One more is for what this process asks for itself: migrations, the size of the database, the state of jobs.
 */
const RECORD_CONNECTIONS = 3
const OWN_CONNECTIONS = 1

/**
 * Pools of their own for writing and reading, so that slow reads cannot keep a flush from its connection; for lists, so
 * that they cannot keep a single record from its reader, and because a standby may answer them; and for keys, so that
 * reads cannot keep a revoked one alive. None connects before it is used.
 *
 * In front of the connections for single records and for lists, the API keys wait for their turn.
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
      url,
      statementTimeoutMs: config.READ_TIMEOUT_SECONDS * 1000,
      watched: true,
      onError,
      onQuery,
    }
    // "Did it land?", keys and migrations are asked of the primary always: a standby does not know yet.
    const read = connect({ ...forReading, name: 'sluice-read', connections: RECORD_CONNECTIONS + OWN_CONNECTIONS })
    const keys = connect({ ...forReading, name: 'sluice-keys', connections: 1 })
    const list = connect({
      ...forReading,
      name: 'sluice-list',
      connections: config.READ_CONNECTIONS,
      url: config.DATABASE_READ_URL ?? url,
    })
    const pools = { write, read, keys, list }
    const refusal = 'All connections for reading are in use. Ask again later.'
    const turnstiles = {
      read: new Turnstile(RECORD_CONNECTIONS, refusal),
      list: new Turnstile(config.READ_CONNECTIONS, refusal),
    }

    app.decorate('db', pools)
    app.decorate('turnstiles', turnstiles)
    tellPools(
      app.metrics,
      (Object.keys(pools) as (keyof typeof pools)[]).map((pool) => ({
        pool,
        status: () => {
          const status = poolStatus(pools[pool])
          const waiting = pool === 'read' || pool === 'list' ? turnstiles[pool].waiting : 0
          return { ...status, waiting: status.waiting + waiting }
        },
      })),
    )
    app.addHook('onClose', async () => {
      await Promise.all(Object.values(pools).map((db) => db.destroy()))
    })
  },
  { name: 'database', dependencies: ['metrics', 'tracing'] },
)

declare module 'fastify' {
  interface FastifyInstance {
    db: Record<'write' | 'read' | 'keys' | 'list', Database>
    /** In front of the connections for single records, and of those for lists and exports. */
    turnstiles: Record<'read' | 'list', Turnstile>
  }
}
