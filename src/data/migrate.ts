import { readdir, readFile } from 'node:fs/promises'
import { type Kysely, sql } from 'kysely'
import { type Migration, Migrator } from 'kysely/migration'
import { sqlstateOf } from './sqlstate.ts'

const folder = new URL('../../db/migrations/', import.meta.url)
const privileges = new URL('../../db/privileges.sql', import.meta.url)

/**
 * Brings the schema up to date, says again what each role may do, and begins a new epoch where the database was restored.
 * `db`: connected as the owner of the database. Returns the names that were run, in order. Throws with the name of the one
 * that failed; then none of them was run. A database that is ahead of this code is left as it is: in a rolling update
 * the old version may start once more.
 */
export async function migrate<DB>(db: Kysely<DB>, files = folder): Promise<string[]> {
  return db.connection().execute(async (session) => {
    // Kysely's own lock does not cover the privileges, and two that grant at once fail: tuple concurrently updated.
    await sql`SELECT pg_advisory_lock(${MIGRATION})`.execute(session)
    try {
      if (await isAhead(session, files)) return []
      await sql.raw(`SET lock_timeout = '${LONGEST_LOCK}'`).execute(session)
      const names = await runMigrations(session, files)
      await sql.raw(await readFile(privileges, 'utf8')).execute(session)
      // Of a database that was restored, whose transaction ids start over, the old records are shown from here on: they
      // are of an earlier life. Without this only a first new record would say so.
      await sql`SELECT sluice.current_epoch()`.execute(session)
      return names
    } finally {
      await sql`RESET lock_timeout`.execute(session)
      await sql`SELECT pg_advisory_unlock(${MIGRATION})`.execute(session)
    }
  })
}

/**
 * The names of the migrations that this code needs and the database lacks. Only reads, so that the API's role may ask;
 * all of them while there is no schema, or none that this role may look into.
 */
export async function pendingMigrations<DB>(db: Kysely<DB>, files = folder): Promise<string[]> {
  const applied = await appliedMigrations(db)
  return (await migrationNames(files)).filter((name) => !applied.includes(name))
}

const MIGRATION = 7_582_003

/**
 * How long a migration waits for a table. Everybody else waits behind it: a migration that met a backup, which reads all tables
 * for hours, would stop all writing until that ends. It fails instead, and is run again (k8s/base/migration.yaml).
 */
const LONGEST_LOCK = '5s'

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

/** No such table, no such schema, no right to look into it. */
const NOT_YET = ['42P01', '3F000', '42501']

async function appliedMigrations<DB>(db: Kysely<DB>): Promise<string[]> {
  try {
    const { rows } = await sql<{ name: string }>`SELECT name FROM sluice.migrations`.execute(db)
    return rows.map((row) => row.name)
  } catch (error) {
    if (NOT_YET.includes(sqlstateOf(error) ?? '')) return []
    throw error
  }
}
