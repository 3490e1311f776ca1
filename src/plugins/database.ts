import { EventEmitter } from 'node:events'
import { hostname } from 'node:os'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Registry } from 'prom-client'
import { identify } from '../data/instances.ts'
import { COMMITS } from '../data/notify-commit.ts'
import { WRITERS } from '../data/stalled-writers.ts'
import { FairSemaphore } from '../lib/fair-semaphore.ts'
import { VERSION } from '../lib/version.ts'
import { connect, type PoolStatus, poolStatus, type Query, tryConnection } from '../postgres/connect.ts'
import type { Database } from '../postgres/tables.ts'
import { registerGauge } from './metrics/register.ts'

/**
 * Connections per flush. Each try may log in again: the login of the try before it may never get a response, so a try does not
 * wait for it. More than one connection per flush is open only after such an outage, for ten seconds.
 */
const LOGINS = 3

/**
 * How long a flush waits for a login. If the network drops everything silently, only another try can notice that it works
 * again. A late login makes a read fail. So reads wait longer, so that a busy machine alone does not make a read fail.
 */
const LOGIN_MS = 1_000

/**
 * Connections that read single records. Such a read takes a millisecond and must not wait for lists or statistics, which may take
 * seconds. Another connection is for the server itself: migrations, the size of the database, jobs, rollups, the status.
 */
const RECORD_CONNECTIONS = 3
const STATS_CONNECTIONS = 1
const OWN_CONNECTIONS = 1

/** Connections of feed readers that are not up to date. The others need none: they have the watcher, with a connection of its own. */
const FEED_CONNECTIONS = 3

/**
 * Separate pools of connections. Slow reads cannot delay a flush, because writes have their own pool. Lists cannot delay single
 * records, and may use a standby. Reads cannot delay the refusal of a revoked key. A pool connects when it is first used.
 *
 * API keys take turns with the connections for single records and for lists.
 */
export default fp(
  async function database(app: FastifyInstance) {
    const { config } = app
    const onError = (err: Error) => app.log.warn({ err }, 'a connection to the database broke')
    const unsupported = Promise.withResolvers<Error>()
    const onUnsupported = unsupported.resolve
    const { traces } = app
    const onQuery = traces && ((query: Query) => traces.noteQuery(query))
    // Set: see buildApp.
    const url = config.DATABASE_URL as string

    const write = connect({
      url,
      name: WRITERS,
      connections: config.FLUSH_CONCURRENCY * LOGINS,
      statementTimeoutMs: 0,
      prepare: true,
      plan: 'byIdentity',
      watched: true,
      loginMs: LOGIN_MS,
      onError,
      onUnsupported,
      onQuery,
    })
    const forReading = {
      url,
      statementTimeoutMs: config.READ_TIMEOUT_SECONDS * 1000,
      watched: true,
      onError,
      onUnsupported,
      onQuery,
    }
    // Single records, keys and migrations are always read from the primary, because a standby may lag behind.
    const forRecords = RECORD_CONNECTIONS + STATS_CONNECTIONS + OWN_CONNECTIONS
    const read = connect({ ...forReading, name: 'sluice-read', connections: forRecords })
    const { name: instanceName, applicationName } = identify(VERSION, hostname(), config.PORT)
    app.decorate('instanceName', instanceName)
    const keys = connect({ ...forReading, name: applicationName, connections: 1 })
    const list = connect({
      ...forReading,
      name: 'sluice-list',
      connections: config.READ_CONNECTIONS,
      ...(config.DATABASE_READ_URL !== undefined && {
        url: config.DATABASE_READ_URL,
        setting: 'DATABASE_READ_URL',
      }),
    })
    // The feed is read from the primary as well: a reader must not go back to what a standby had a moment ago.
    const forFeed = { ...forReading, plan: 'inOrder' as const, prepare: true }
    const feed = connect({ ...forFeed, name: 'sluice-feed', connections: FEED_CONNECTIONS })
    const commits = new EventEmitter<CommitEvents>()
    const listening = {
      channel: COMMITS,
      onListen: () => commits.emit('connected'),
      onNotification: () => commits.emit('elsewhere'),
    }
    const watch = connect({ ...forFeed, name: 'sluice-watch', connections: 1, listening })
    const pools = { write, read, keys, list, feed, watch }
    const refusal = 'All connections for reading are in use. Try again later.'
    const semaphores = {
      read: new FairSemaphore(RECORD_CONNECTIONS, refusal),
      stats: new FairSemaphore(STATS_CONNECTIONS, 'Other requests read statistics. Try again later.'),
      list: new FairSemaphore(config.READ_CONNECTIONS, refusal),
      feed: new FairSemaphore(FEED_CONNECTIONS, refusal),
    }

    app.decorate('db', pools)
    app.decorate('commits', commits)
    app.decorate('unsupportedDatabase', unsupported.promise)
    app.decorate('semaphores', semaphores)
    registerMetrics(
      app.metrics,
      (Object.keys(pools) as (keyof typeof pools)[]).map((pool) => ({
        pool,
        status: () => {
          const status = poolStatus(pools[pool])
          const waiting = pool in semaphores ? semaphores[pool as keyof typeof semaphores].waiting : 0
          return { ...status, waiting: status.waiting + waiting }
        },
      })),
    )
    // The other pools connect by themselves at the start.
    if (config.DATABASE_READ_URL !== undefined) app.addHook('onReady', async () => void checkStandby())
    async function checkStandby(): Promise<void> {
      await tryConnection(list).catch((err) => app.log.warn({ err }, 'lists and exports do not work yet'))
    }
    app.addHook('onClose', async () => {
      await Promise.all(Object.values(pools).map((db) => db.destroy()))
    })
  },
  { name: 'database', dependencies: ['metrics', 'tracing'] },
)

/** Connections to the database, by pool. */
function registerMetrics(registry: Registry, pools: { pool: string; status: () => PoolStatus }[]): void {
  const each = <T>(of: (pool: string, status: PoolStatus) => T) => pools.map(({ pool, status }) => of(pool, status()))

  registerGauge(registry, {
    name: 'sluice_pool_connections',
    help: 'Connections to the database.',
    labelNames: ['pool', 'state'],
    read: () =>
      each((pool, { total, idle }) => [
        [{ pool, state: 'idle' }, idle] as const,
        [{ pool, state: 'used' }, total - idle] as const,
      ]).flat(),
  })
  registerGauge(registry, {
    name: 'sluice_pool_max_connections',
    help: 'Maximum number of connections of the pool.',
    labelNames: ['pool'],
    read: () => each((pool, { max }) => [{ pool }, max] as const),
  })
  registerGauge(registry, {
    name: 'sluice_pool_waiting',
    help: 'Queries that wait for a connection.',
    labelNames: ['pool'],
    read: () => each((pool, { waiting }) => [{ pool }, waiting] as const),
  })
}

/** Events of the connection `watch`: it is a new one; another instance has committed records. */
interface CommitEvents {
  connected: []
  elsewhere: []
}

declare module 'fastify' {
  interface FastifyInstance {
    db: Record<'write' | 'read' | 'keys' | 'list' | 'feed' | 'watch', Database>
    /** Resolves if Sluice cannot work with the database, and waiting does not help. */
    unsupportedDatabase: Promise<Error>
    commits: EventEmitter<CommitEvents>
    /** Of this instance, as the others see it. */
    instanceName: string
    /** Share the connections for single records, statistics, lists and exports, and the feed between API keys. */
    semaphores: Record<'read' | 'stats' | 'list' | 'feed', FairSemaphore>
  }
}
