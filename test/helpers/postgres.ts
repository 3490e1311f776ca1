import { createHash, randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Kysely, sql } from 'kysely'
import type { Test } from 'tap'
import { type Embedded, openEmbedded } from '../../db/embedded/index.ts'
import { migrate } from '../../src/postgres/migrate.ts'
import { ensureDatabase, provision } from '../../src/postgres/roles.ts'
import { connect } from './connect.ts'

const repository = new URL('../../', import.meta.url)

export interface TestDatabase {
  name: string
  superUrl: string
  ownerUrl: string
  apiUrl: string
  maintenanceUrl: string
}

/** Creates a migrated database, which is dropped when `t` ends. Copying a template takes a fraction of a second. */
export async function createDatabase(t: Test): Promise<TestDatabase> {
  const server = await openTestServer()
  return makeDatabase(t, server, await ensureTemplate(server))
}

/** Creates a database without a schema, which is dropped when `t` ends. */
export async function createEmptyDatabase(t: Test): Promise<TestDatabase> {
  return makeDatabase(t, await openTestServer())
}

async function makeDatabase(t: Test, server: Embedded, template?: string): Promise<TestDatabase> {
  const name = newName()
  const db = connect(server.superUrl)
  try {
    // Without this strategy, each page would be written to the log, which takes several times as long.
    if (template !== undefined)
      await sql`CREATE DATABASE ${sql.id(name)} TEMPLATE ${sql.id(template)} STRATEGY FILE_COPY`.execute(db)
    await ensureDatabase(db, name, 'sluice_owner')
  } finally {
    await db.destroy()
  }
  t.teardown(async () => {
    const db = connect(server.superUrl)
    await sql`DROP DATABASE ${sql.id(name)} WITH (FORCE)`.execute(db).finally(() => db.destroy())
  })
  return { name, ...urlsOf(server, name) }
}

/** The folder of the server for a job of tap; by default, the one that runs this process. */
export const serverFolder = (job = process.env.TAP_JOB_ID ?? '0'): string =>
  fileURLToPath(new URL(`.sluice/test-${job}`, repository))

/**
 * Opens the server in `folder`. Each job of tap has one and runs one test file after the other, so no two files use a server at the
 * same time. Transactions of another database would sometimes keep a record out of the feed for a moment, if they ended while it
 * was read, and tests read what they have just stored.
 *
 * Only test/helpers/after.ts releases the servers, so that they are not stopped between two files. The end of a process releases
 * the share of that process.
 */
export async function openTestServer(folder = serverFolder()): Promise<Embedded> {
  // The data need not survive a power cut. Tests check synchronous_commit, so it keeps its default. Autovacuum is off, because
  // tests check dead rows, locks and running transactions.
  const settings = { fsync: 'off', full_page_writes: 'off', max_connections: '200', autovacuum: 'off' }
  return openEmbedded(folder, provision, { settings })
}

/** Opens the server of the first job, and those that other jobs have created. */
export async function openTestServers(): Promise<Embedded[]> {
  const siblings = await readdir(dirname(serverFolder())).catch(() => [])
  const jobs = siblings.map((name) => /^test-(\d+)$/.exec(name)?.[1]).filter((job) => job !== undefined)
  return Promise.all([...new Set(['0', ...jobs])].map((job) => openTestServer(serverFolder(job))))
}

/** Drops databases that aborted runs left: those of processes that have ended, and templates of older migrations. */
export async function dropLeftovers(server: Embedded): Promise<void> {
  const db = connect(server.superUrl)
  try {
    const current = await templateName(db)
    const { rows } = await sql<{ name: string }>`
      SELECT datname AS name FROM pg_database WHERE datname ~ '^(test|template)_'`.execute(db)
    for (const { name } of rows) {
      const [kind, pid] = name.split('_')
      if (kind === 'test' ? isAlive(Number(pid)) : name === current) continue
      await sql`DROP DATABASE IF EXISTS ${sql.id(name)} WITH (FORCE)`.execute(db)
    }
    // Autovacuum, which is off, would remove the dead rows of the dropped databases from the catalogs.
    await sql`VACUUM`.execute(db)
  } finally {
    await db.destroy()
  }
}

/** Creates the template, unless it exists: a migrated database without connections. @returns its name */
export async function ensureTemplate(server: Embedded): Promise<string> {
  const db = connect(server.superUrl)
  try {
    const template = await templateName(db)
    const { rows } = await sql`SELECT FROM pg_database WHERE datname = ${template}`.execute(db)
    if (rows.length > 0) return template

    // It is completed under another name first, so that a database with the template's name is always complete, even if several
    // processes create one.
    const name = newName()
    await ensureDatabase(db, name, 'sluice_owner')
    const owner = connect(urlsOf(server, name).ownerUrl)
    await migrate(owner).finally(() => owner.destroy())
    await sql`ALTER DATABASE ${sql.id(name)} ALLOW_CONNECTIONS false`.execute(db)
    try {
      await sql`ALTER DATABASE ${sql.id(name)} RENAME TO ${sql.id(template)}`.execute(db)
    } catch {
      await sql`DROP DATABASE ${sql.id(name)}`.execute(db)
    }
    return template
  } finally {
    await db.destroy()
  }
}

/**
 * The name is derived from the migrations and the start time of the server. In a copy of a template from an earlier start, the
 * first transaction that writes would begin a new epoch, and all other writers would wait for its end.
 */
async function templateName(db: Kysely<unknown>): Promise<string> {
  const { rows } = await sql<{ at: string }>`SELECT pg_postmaster_start_time()::text AS at`.execute(db)
  const hash = createHash('sha256').update(rows[0]?.at ?? '')
  const migrations = (await readdir(new URL('db/migrations', repository))).sort()
  for (const file of ['db/privileges.sql', ...migrations.map((name) => `db/migrations/${name}`)]) {
    hash.update(file).update(await readFile(new URL(file, repository)))
  }
  return `template_${hash.digest('hex').slice(0, 12)}`
}

// The process id shows which databases an aborted run left behind.
const newName = () => `test_${process.pid}_${randomBytes(4).toString('hex')}`

function urlsOf(server: Embedded, name: string) {
  const to = (url: string) => Object.assign(new URL(url), { pathname: `/${name}` }).href
  const { superUrl, ownerUrl, apiUrl, maintenanceUrl } = server
  return { superUrl: to(superUrl), ownerUrl: to(ownerUrl), apiUrl: to(apiUrl), maintenanceUrl: to(maintenanceUrl) }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
