import { resolve } from 'node:path'
import { type Kysely, sql } from 'kysely'
import { ensureCluster } from './cluster.ts'
import { EmbeddedError } from './error.ts'
import { prepareHome } from './home.ts'
import { findServer, readLogEnd, startServer, stopServer } from './server.ts'
import { openSession } from './session.ts'

export { EmbeddedError } from './error.ts'

export interface Embedded {
  superUrl: string
  ownerUrl: string
  apiUrl: string
  maintenanceUrl: string
  /** Stops using the server, and stops the server if no other process uses it. */
  release(): Promise<void>
}

/** Server settings by name. They take effect only if this call starts the server. */
interface EmbeddedOptions {
  settings?: Record<string, string>
}

/**
 * Creates or corrects the roles, and creates the database `sluice` if it does not exist. It is a parameter, because db/ imports
 * nothing from src/.
 * @param db connected as the superuser
 * @param passwordOf returns the password of a role
 */
type Provision = (db: Kysely<unknown>, passwordOf: (role: string) => string) => Promise<void>

/**
 * A real PostgreSQL with its files in `folder`. It contains the roles and the database `sluice`, which is kept between starts.
 *
 * All processes that open the same folder share one server. The first one starts it, and the last one to release it stops it.
 * Users are counted by shared advisory locks. PostgreSQL releases a lock when the connection closes, so a crashed process
 * is not counted. If a server outlived its users, the next process takes it over.
 * @param provision called on each open, before the URLs are returned; creates the roles that the URLs use
 * @throws EmbeddedError
 */
export async function openEmbedded(
  folder: string,
  provision: Provision,
  { settings = {} }: EmbeddedOptions = {},
): Promise<Embedded> {
  // The driver would read them for each connection whose URL does not have them, but they are for other servers.
  for (const name of ['PGOPTIONS', 'PGREPLICATION']) delete process.env[name]
  const { home, passwordOf } = await prepare(resolve(folder))
  const url = (port: number, role: string, database: string) =>
    `postgres://${role}:${passwordOf(role)}@127.0.0.1:${port}/${database}`

  const { db, port } = await useServer()
  let released = false
  try {
    await provision(db, passwordOf)
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

  // Another process may start or stop the server between any two of these steps. Then the loop tries again.
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
      `PostgreSQL does not start on ${home.data} (${failure ?? 'other processes keep stopping it'}). ${await readLogEnd(home)}`,
    )
  }

  // The server was restarted, or one of its backends crashed, so the lock is lost. Without it, the next process to release would
  // assume that it is the last one.
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

/** Adds what to do to errors of the operating system, such as a read-only folder or a full disk. */
async function prepare(folder: string) {
  try {
    const home = await prepareHome(folder)
    return { home, passwordOf: await ensureCluster(home) }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).syscall === undefined) throw cause
    throw new EmbeddedError(
      `The local database cannot write to the folder ${folder} (${(cause as Error).message}). ` +
        'Fix this, or set DATABASE_URL to a PostgreSQL 18 of your own.',
    )
  }
}

/** The number of an advisory lock. Any number that nothing else in the database `postgres` of this server uses. */
const USERS = 7_582_001

// Waits while a process holds the lock exclusively. That process is about to stop the server, which closes this connection. Then
// this returns false.
const lockShared = (db: Kysely<unknown>) =>
  sql`SELECT pg_advisory_lock_shared(${USERS})`.execute(db).then(
    () => true,
    () => false,
  )

// Releases its own lock first. Otherwise, of two processes that release at the same time, neither would be the last.
async function lockAlone(db: Kysely<unknown>): Promise<boolean> {
  await sql`SELECT pg_advisory_unlock_all()`.execute(db)
  const { rows } = await sql<{ alone: boolean }>`SELECT pg_try_advisory_lock(${USERS}) AS alone`.execute(db)
  return rows[0]?.alone === true
}
