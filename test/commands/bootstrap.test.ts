import { type Kysely, sql } from 'kysely'
import t from 'tap'
import { runBootstrap } from '../../src/commands/bootstrap.ts'
import { migrate } from '../../src/postgres/migrate.ts'
import { roleNames } from '../../src/postgres/roles.ts'
import { connect } from '../helpers/connect.ts'
import { openOwnServer } from '../helpers/own-server.ts'

// Roles belong to the whole server, and other tests use the shared one.
const server = await openOwnServer(t)
const superUrl = (database: string) => Object.assign(new URL(server.superUrl), { pathname: `/${database}` }).href
const passwords = Object.fromEntries(roleNames.map((role) => [`${role.toUpperCase()}_PASSWORD`, `${role}-1`]))
const environment = { LOG_LEVEL: 'silent', DATABASE_URL: superUrl('records'), ...passwords }

t.test('bootstrap creates the roles and the database of DATABASE_URL, and can run again', async (t) => {
  await runBootstrap({ key: false }, environment)
  await runBootstrap({ key: false }, environment)
  for (const role of roleNames) t.equal(await whoAmI(role, `${role}-1`), role)
})

t.test('sluice_owner can migrate the new database, and sluice_api can read the records', async (t) => {
  await as('sluice_owner', 'sluice_owner-1', migrate)
  await as('sluice_api', 'sluice_api-1', (db) => sql`SELECT FROM sluice.records`.execute(db))
  t.pass()
})

t.test('a changed password replaces the old one, and the other roles keep theirs', async (t) => {
  await runBootstrap({ key: false }, { ...environment, SLUICE_API_PASSWORD: 'sluice_api-2' })
  await t.rejects(whoAmI('sluice_api', 'sluice_api-1'), { code: '28P01' })
  t.equal(await whoAmI('sluice_api', 'sluice_api-2'), 'sluice_api')
  t.equal(await whoAmI('sluice_owner', 'sluice_owner-1'), 'sluice_owner')
})

t.test('a missing password is named in the error, and no password changes', async (t) => {
  await t.rejects(
    runBootstrap({ key: false }, { ...environment, SLUICE_BACKUP_PASSWORD: '' }),
    /SLUICE_BACKUP_PASSWORD/,
  )
  t.equal(await whoAmI('sluice_api', 'sluice_api-2'), 'sluice_api')
})

t.test('a DATABASE_URL that is empty or does not contain a database name is refused', async (t) => {
  await t.rejects(
    runBootstrap({ key: false }, { ...environment, DATABASE_URL: superUrl('') }),
    /does not contain a database name/,
  )
  await t.rejects(runBootstrap({ key: false }, { ...environment, DATABASE_URL: '' }), /DATABASE_URL is not set/)
})

t.test('--key creates the first API key once, and does not restore a revoked one', async (t) => {
  const env = {
    LOG_LEVEL: 'silent',
    DATABASE_URL: urlOf('sluice_owner', 'sluice_owner-1'),
    SLUICE_BOOTSTRAP_KEY: 'sluice_first_0123456789',
  }
  await runBootstrap({ key: true }, env)
  await as('sluice_owner', 'sluice_owner-1', (db) => sql`UPDATE sluice.keys SET revoked_at = now()`.execute(db))
  await runBootstrap({ key: true }, env)
  const { rows } = await as('sluice_owner', 'sluice_owner-1', (db) =>
    sql`SELECT scopes, revoked_at IS NOT NULL AS revoked FROM sluice.keys`.execute(db),
  )
  t.strictSame(rows, [{ scopes: ['ingest', 'read', 'admin'], revoked: true }])
  await t.rejects(runBootstrap({ key: true }, { ...env, SLUICE_BOOTSTRAP_KEY: '' }), /SLUICE_BOOTSTRAP_KEY is not set/)
})

function urlOf(username: string, password: string): string {
  return Object.assign(new URL(superUrl('records')), { username, password }).href
}

async function as<T>(role: string, password: string, work: (db: Kysely<unknown>) => Promise<T>): Promise<T> {
  const db = connect(urlOf(role, password))
  return work(db).finally(() => db.destroy())
}

async function whoAmI(role: string, password: string): Promise<string | undefined> {
  const { rows } = await as(role, password, (db) => sql<{ name: string }>`SELECT current_user AS name`.execute(db))
  return rows[0]?.name
}
