import { readdir, readFile } from 'node:fs/promises'
import { type Kysely, sql } from 'kysely'
import { type Migration, Migrator } from 'kysely/migration'
import { sqlstateOf } from './sqlstate.ts'

const folder = new URL('../../db/migrations/', import.meta.url)
const privileges = new URL('../../db/privileges.sql', import.meta.url)

/**
 * Brings the schema up to date, grants each role its privileges again, and begins a new epoch if the database was restored.
 * All migrations run in one transaction. If the database has newer migrations than this code, nothing is changed: during a
 * rolling update, the old version may start once more.
 * @param db connected as the owner of the database
 * @returns the names of the migrations that were run, in order
 * @throws with the name of the migration that failed; then no migration was applied
 */
export async function migrate<DB>(db: Kysely<DB>, files = folder): Promise<string[]> {
  return db.connection().execute(async (session) => {
    // Kysely's own lock does not cover the privileges, and two processes that grant at the same time fail ("tuple
    // concurrently updated").
    await sql`SELECT pg_advisory_lock(${MIGRATION})`.execute(session)
    try {
      if (await isAhead(session, files)) return []
      await sql.raw(`SET lock_timeout = '${MAX_LOCK_TIME}'`).execute(session)
      const names = await runMigrations(session, files)
      await sql.raw(await readFile(privileges, 'utf8')).execute(session)
      // The transaction ids of a restored database start over. The old records are shown only once a new epoch has begun,
      // because they then belong to an earlier one. Without this call, the first new record would begin it.
      await sql`SELECT sluice.current_epoch()`.execute(session)
      return names
    } finally {
      await sql`SET lock_timeout = 0`.execute(session)
      await sql`SELECT pg_advisory_unlock(${MIGRATION})`.execute(session)
    }
  })
}

/**
 * The names of the migrations that this code needs and the database lacks. If the schema does not exist, or this role may not
 * read it, these are all migrations. It only reads, so the API's role can call it.
 */
export async function pendingMigrations<DB>(db: Kysely<DB>, files = folder): Promise<string[]> {
  const applied = await appliedMigrations(db)
  return (await migrationNames(files)).filter((name) => !applied.includes(name))
}

const MIGRATION = 7_582_003

/**
 * How long a migration waits for the lock on a table. All other statements wait behind it: if a backup is reading the tables,
 * which can take hours, a waiting migration would stop all writes until the backup ends. Instead, the migration fails and is
 * retried (k8s/base/migration.yaml).
 */
const MAX_LOCK_TIME = '5s'

async function runMigrations<DB>(db: Kysely<DB>, files: URL): Promise<string[]> {
  const migrator = new Migrator({
    db,
    provider: { getMigrations: () => readMigrations(files) },
    migrationTableSchema: 'sluice',
    migrationTableName: 'migrations',
    migrationLockTableName: 'migrations_lock',
  })
  const { error, results = [] } = await migrator.migrateToLatest()
  if (error) {
    const failed = results.find((result) => result.status === 'Error')
    const reason = error instanceof Error ? error.message : String(error)
    throw new Error(failed ? `Migration ${failed.migrationName} failed: ${reason}` : `Cannot migrate: ${reason}`, {
      cause: error,
    })
  }
  return results.map((result) => result.migrationName)
}

async function readMigrations(files: URL): Promise<Record<string, Migration>> {
  const names = await migrationNames(files)
  const migrations = names.map(async (name) => {
    const statements = await readFile(new URL(`${name}.sql`, files), 'utf8')
    return [name, { up: async (db: Kysely<unknown>) => void (await sql.raw(statements).execute(db)) }] as const
  })
  return Object.fromEntries(await Promise.all(migrations))
}

async function migrationNames(files: URL): Promise<string[]> {
  const names = await readdir(files)
  return names
    .filter((name) => /^\d{4}_\w+\.sql$/.test(name))
    .map((name) => name.slice(0, -'.sql'.length))
    .sort()
}

async function isAhead<DB>(db: Kysely<DB>, files: URL): Promise<boolean> {
  const [names, applied] = await Promise.all([migrationNames(files), appliedMigrations(db)])
  return names.every((name) => applied.includes(name)) && applied.some((name) => !names.includes(name))
}

/** No such table, no such schema, no privilege on the schema. */
const NOT_MIGRATED = ['42P01', '3F000', '42501']

async function appliedMigrations<DB>(db: Kysely<DB>): Promise<string[]> {
  try {
    const { rows } = await sql<{ name: string }>`SELECT name FROM sluice.migrations`.execute(db)
    return rows.map((row) => row.name)
  } catch (error) {
    if (NOT_MIGRATED.includes(sqlstateOf(error) ?? '')) return []
    throw error
  }
}
