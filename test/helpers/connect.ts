import { Kysely, PostgresDialect } from 'kysely'
import { Pool, type PoolClient } from 'pg'

/** A connection for a test's own questions; `destroy()` it. Survives the server's end, which some tests bring about. */
export function connect(url: string, max = 1): Kysely<unknown> {
  // An idle connection stays, however long the test takes: it may have locks and settings. It keeps no process alive.
  const pool = new TestPool({ connectionString: url, max, idleTimeoutMillis: 0, allowExitOnIdle: true })
  pool.on('error', () => {})
  // Of a connection that is in use, the pool tells nothing.
  pool.on('connect', (client) => client.on('error', () => {}))
  return new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) })
}

/** One whose end is waited for: that of an idle connection would not keep the process alive either, and the test would end. */
class TestPool extends Pool {
  readonly #clients = new Set<PoolClient & { ref(): void }>()

  constructor(config: ConstructorParameters<typeof Pool>[0]) {
    super(config)
    this.on('connect', (client) => this.#clients.add(client as PoolClient & { ref(): void }))
    this.on('remove', (client) => this.#clients.delete(client as PoolClient & { ref(): void }))
  }

  override end(): Promise<void> {
    for (const client of this.#clients) client.ref()
    return super.end()
  }
}
