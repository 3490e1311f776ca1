import { sql } from 'kysely'
import { openEmbedded } from '../../db/embedded/index.ts'
import { issueKey } from '../../src/access/manage-keys.ts'
import { withConnection } from '../../src/commands/database.ts'
import { migrate } from '../../src/postgres/migrate.ts'
import { ensureDatabase, provision } from '../../src/postgres/roles.ts'
import { idOf, readRecord } from './order-events.ts'

/** The table of Sluice, and an identical table for the naive server and for COPY. */
const TABLES = { ours: 'sluice.records', rival: 'rival.records' }
type TableName = keyof typeof TABLES

/** A database that only this run uses. */
export interface BenchDatabase {
  /** For Sluice. On the embedded server it has the same role as in production. */
  apiUrl: string
  /** For retention. */
  maintenanceUrl: string
  /** For the naive server and for COPY. */
  ownerUrl: string
  /** Two keys that may ingest and read. */
  key: string
  otherKey: string
  /** One line with the version of PostgreSQL and the settings that affect the result. */
  describe(): Promise<string>
  count(table: TableName): Promise<number>
  /** The number of rows, and a digest of their content that does not depend on their order. */
  digest(table: TableName): Promise<{ count: number; digest: string }>
  /** Stores records with the ids `idOf(from)`, `idOf(from + 1)`, and so on. Half of them look as if received two months ago. */
  seed(records: number, from: number): Promise<void>
  /** Empties both tables, and runs a checkpoint, so that PostgreSQL has nothing left to write in the background. */
  empty(): Promise<void>
  checkpoint(): Promise<void>
  /** Drops the database and releases the server. */
  drop(): Promise<void>
}

const FOLDER = new URL('../../.sluice/bench', import.meta.url).pathname

/** Creates the database on the server of DATABASE_URL, whose user needs CREATEDB, or else on an embedded server. */
export async function openBenchDatabase(): Promise<BenchDatabase> {
  const server = await openServer()
  // The name contains the name of the database in the URL, so that runs against different databases do not collide.
  const name = `${new URL(server.superUrl).pathname.slice(1) || 'sluice'}_bench`
  const own = (url: string) => Object.assign(new URL(url), { pathname: `/${name}` }).href
  const [superUrl, ownerUrl] = [own(server.superUrl), own(server.ownerUrl)]
  try {
    await withConnection(server.superUrl, async (db) => {
      // A run that was killed leaves its database. Without FORCE: if another run is using the database, this run fails, not that one.
      await sql`DROP DATABASE IF EXISTS ${sql.id(name)}`.execute(db)
      await (server.embedded
        ? ensureDatabase(db, name, 'sluice_owner')
        : sql`CREATE DATABASE ${sql.id(name)} TEMPLATE template0`.execute(db))
    })
    return {
      apiUrl: own(server.apiUrl),
      maintenanceUrl: own(server.maintenanceUrl),
      ownerUrl,
      ...(await prepare(ownerUrl)),
      describe,
      count,
      digest,
      seed,
      empty,
      checkpoint,
      drop,
    }
  } catch (error) {
    await server.release()
    throw error
  }

  async function describe(): Promise<string> {
    return withConnection(superUrl, async (db) => {
      const { rows } = await sql<Record<'version' | 'fsync' | 'commit', string>>`
        SELECT current_setting('server_version') AS version, current_setting('fsync') AS fsync,
               current_setting('synchronous_commit') AS commit`.execute(db)
      const [{ version, fsync, commit } = {}] = rows
      return `PostgreSQL ${version}, fsync ${fsync}, synchronous_commit ${commit}`
    })
  }

  async function count(table: TableName): Promise<number> {
    return withConnection(ownerUrl, async (db) => {
      const { rows } = await sql<{ n: string }>`SELECT count(*) AS n FROM ${sql.table(TABLES[table])}`.execute(db)
      return Number(rows[0]?.n)
    })
  }

  async function digest(table: TableName): Promise<{ count: number; digest: string }> {
    return withConnection(ownerUrl, async (db) => {
      const { rows } = await sql<{ n: string; digest: string }>`
        SELECT count(*) AS n,
               sum(hashtextextended((source, id, type, subject, "time", dataschema, datacontenttype, extensions, data::text,
                                     data_bytes)::text, 0))::text AS digest
        FROM ${sql.table(TABLES[table])}`.execute(db)
      const [{ n, digest } = { n: '0', digest: '' }] = rows
      return { count: Number(n), digest }
    })
  }

  async function seed(records: number, from: number): Promise<void> {
    const { source, type, subject, time, data } = readRecord()
    const [, rest] = /^[0-9a-f]{8}(.*)$/.exec(idOf(from)) as RegExpExecArray
    await withConnection(ownerUrl, async (db) => {
      for (const [age, first] of [[60, from] as const, [0, from + records / 2] as const]) {
        // The same ids as `idOf`, computed in SQL.
        await sql`
          INSERT INTO sluice.records (epoch, n, received_at, source, id, type, subject, "time", data)
          SELECT sluice.current_epoch(), n, now() - make_interval(days => ${age}), ${source},
                 lpad(to_hex((n * 2654435761) & 4294967295), 8, '0') || ${rest}, ${type}, ${subject}, ${time}, ${data}
          FROM generate_series(${first}::bigint, ${first + records / 2 - 1}::bigint) AS n`.execute(db)
      }
      await sql`VACUUM (ANALYZE) sluice.records`.execute(db)
    })
    await checkpoint()
  }

  async function empty(): Promise<void> {
    const tables = Object.values(TABLES).map((name) => sql.table(name))
    await withConnection(ownerUrl, (db) => sql`TRUNCATE ${sql.join(tables)}`.execute(db))
    await checkpoint()
  }

  async function checkpoint(): Promise<void> {
    await withConnection(superUrl, (db) => sql`CHECKPOINT`.execute(db))
  }

  async function drop(): Promise<void> {
    await withConnection(server.superUrl, (db) => sql`DROP DATABASE ${sql.id(name)} WITH (FORCE)`.execute(db)).finally(
      server.release,
    )
  }
}

async function openServer() {
  const url = process.env.DATABASE_URL
  if (url === undefined || url === '') return { embedded: true, ...(await openEmbedded(FOLDER, provision)) }
  return { embedded: false, superUrl: url, ownerUrl: url, apiUrl: url, maintenanceUrl: url, release: async () => {} }
}

/** Creates the schemas and the keys. */
async function prepare(ownerUrl: string): Promise<Pick<BenchDatabase, 'key' | 'otherKey'>> {
  return withConnection(ownerUrl, async (db) => {
    await migrate(db)
    await sql`CREATE SCHEMA rival`.execute(db)
    // INCLUDING ALL copies defaults, constraints and indexes as well.
    await sql`CREATE TABLE rival.records (LIKE sluice.records INCLUDING ALL)`.execute(db)
    const scopes = ['ingest', 'read'] as const
    const issue = async (name: string) =>
      (await issueKey(db, { name, scopes, sourcePrefixes: [], expiresAt: null })).token
    return { key: await issue('bench'), otherKey: await issue('other') }
  })
}
