import { resolve } from 'node:path'
import { type Kysely, sql } from 'kysely'
import { ensureDatabase, ensureRoles, roleNames } from '../../src/data/roles.ts'
import { ensureCluster } from './cluster.ts'
import { EmbeddedError } from './error.ts'
import { prepareHome } from './home.ts'
import { findServer, startServer, stopServer, whatTheLogSays } from './server.ts'
import { openSession } from './session.ts'

export { EmbeddedError } from './error.ts'

export interface Embedded {
  superUrl: string
  ownerUrl: string
  apiUrl: string
  maintenanceUrl: string
  /** Ends our use of the server, and the server too if nobody else uses it. */
  release(): Promise<void>
}

/** Server settings by name. They take effect only if this call is the one that starts the server. */
export interface EmbeddedOptions {
  settings?: Record<string, string>
}

/**
 * A real PostgreSQL with its files in `folder`, and in it the roles and an empty or kept database `sluice`.
 *
 * Everyone who opens the same folder shares one server: it is started by whoever finds none, and stopped by whoever
 * releases it last. Users are counted by shared advisory locks, which PostgreSQL drops with the connection, so that a
 * crashed one is not counted. A server that outlived its users is taken over by the next. Throws EmbeddedError.
 */
export async function openEmbedded(folder: string, { settings = {} }: EmbeddedOptions = {}): Promise<Embedded> {
  const { home, passwordOf } = await prepare(resolve(folder))
  const url = (port: number, role: string, database: string) =>
    `postgres://${role}:${passwordOf(role)}@127.0.0.1:${port}/${database}`

  const { db, port } = await useServer()
  let released = false
  try {
    await ensureRoles(db, Object.fromEntries(roleNames.map((role) => [role, passwordOf(role)])))
    await ensureDatabase(db, 'sluice', 'sluice_owner')
  } catch (error) {
    await release()
    throw error
  }
  return {
    superUrl: url(port, 'postgres', 'sluice'),
    ownerUrl: url(port, 'sluice_owner', 'sluice'),
    apiUrl: url(port, 'sluice_api', 'sluice'),
    maintenanceUrl: url(port, 'sluice_maintenance', 'sluice'),
    release,
  }

  // Another process may stop the server between any two of our steps, or start it before us; then we go round again.
  async function useServer(): Promise<{ db: Kysely<unknown>; port: number }> {
    let failure: string | undefined
    for (let failures = 0, round = 0; failures < 5 && round < 50; round++) {
      const port = await findServer(home, passwordOf('postgres'))
      if (port === undefined) {
        failure = await startServer(home, settings)
        if (failure) failures++
        continue
      }
      let counted = false
      const db = openSession(url(port, 'postgres', 'postgres'), () => counted && useAgain(db))
      counted = await lockShared(db)
      if (counted) return { db, port }
      await db.destroy()
    }
    throw new EmbeddedError(
      `PostgreSQL does not start on ${home.data} (${failure ?? 'others keep stopping it'}). ${await whatTheLogSays(home)}`,
    )
  }

  // The server was restarted under us, or a backend of it crashed. Without our lock the next one to release would
  // believe to be the last.
  async function useAgain(db: Kysely<unknown>): Promise<void> {
    while (!released && !(await lockShared(db))) {
      await new Promise((resolve) => setTimeout(resolve, 250).unref())
    }
  }

  async function release(): Promise<void> {
    if (released) return
    released = true
    const last = await lockAlone(db).catch(() => false)
    try {
      if (last) await stopServer(home)
    } finally {
      await db.destroy()
    }
  }
}

/** A folder that cannot be written, a full disk: what the system says of it names the place, but not what to do. */
async function prepare(folder: string) {
  try {
    const home = await prepareHome(folder)
    return { home, passwordOf: await ensureCluster(home) }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).syscall === undefined) throw cause
    throw new EmbeddedError(
      `The local database needs a folder ${folder} that it can write (${(cause as Error).message}). ` +
        'Make that possible, or set DATABASE_URL to a PostgreSQL 18 of your own.',
    )
  }
}

/** Any number that no other user of advisory locks in the database `postgres` of this server has. */
const USERS = 7_582_001

// Waits for one who holds it alone. That one is about to stop the server, which breaks this connection: false.
const lockShared = (db: Kysely<unknown>) =>
  sql`SELECT pg_advisory_lock_shared(${USERS})`.execute(db).then(
    () => true,
    () => false,
  )

// Ours is given up first: of two who leave at once and both still held theirs, neither would be the last.
async function lockAlone(db: Kysely<unknown>): Promise<boolean> {
  await sql`SELECT pg_advisory_unlock_all()`.execute(db)
  const { rows } = await sql<{ alone: boolean }>`SELECT pg_try_advisory_lock(${USERS}) AS alone`.execute(db)
  return rows[0]?.alone === true
}
