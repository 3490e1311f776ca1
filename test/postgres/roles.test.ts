import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Kysely, sql } from 'kysely'
import t from 'tap'
import { recordJobRun } from '../../src/data/jobs.ts'
import { ensureRoles, type RoleName, roleNames } from '../../src/postgres/roles.ts'
import { connect } from '../helpers/connect.ts'
import { openOwnServer } from '../helpers/own-server.ts'
import { createDatabase } from '../helpers/postgres.ts'

const { superUrl, apiUrl } = await createDatabase(t)
const root = connect(superUrl)
const api = connect(apiUrl)
t.teardown(() => Promise.all([root.destroy(), api.destroy()]))

const INSUFFICIENT_PRIVILEGE = { code: '42501' }
const record = sql`INSERT INTO sluice.records (n, epoch, source, id, type) VALUES (1, 1, 's', 'i', 't')`

t.test('sluice_api inserts and reads records, and cannot change or delete one', async (t) => {
  await record.execute(api)
  t.equal((await sql`SELECT FROM sluice.records`.execute(api)).rows.length, 1)
  await t.rejects(sql`UPDATE sluice.records SET type = 'other'`.execute(api), INSUFFICIENT_PRIVILEGE)
  await t.rejects(sql`DELETE FROM sluice.records`.execute(api), INSUFFICIENT_PRIVILEGE)
  await t.rejects(sql`TRUNCATE sluice.records`.execute(api), INSUFFICIENT_PRIVILEGE)
})

t.test('sluice_api cannot create, change or drop anything in the schema, or create a table elsewhere', async (t) => {
  for (const ddl of [
    'CREATE TABLE sluice.other ()',
    'CREATE TABLE public.other ()',
    'CREATE TEMPORARY TABLE other ()',
    'CREATE SCHEMA other',
    'CREATE INDEX ON sluice.records (type)',
    'ALTER TABLE sluice.records ADD COLUMN other text',
    'DROP TABLE sluice.records',
    'SET ROLE sluice_owner',
    'INSERT INTO sluice.migrations VALUES (1, 1)',
    'INSERT INTO sluice.epochs VALUES (9, 9, 9)',
  ]) {
    await t.rejects(sql.raw(ddl).execute(api), INSUFFICIENT_PRIVILEGE, ddl)
  }
})

t.test('sluice_api begins an epoch with the function, and then stays in it', async (t) => {
  const epoch = async () => (await sql<{ epoch: number }>`SELECT sluice.current_epoch() AS epoch`.execute(api)).rows
  await sql`TRUNCATE sluice.epochs`.execute(root)
  t.match(await epoch(), [{ epoch: 1 }])
  t.match(await epoch(), [{ epoch: 1 }])
})

t.test('sluice_reader reads records and cannot insert one', async (t) => {
  await as(root, 'sluice_reader', async (reader) => {
    await sql`SELECT FROM sluice.records`.execute(reader)
    await t.rejects(record.execute(reader), INSUFFICIENT_PRIVILEGE)
  })
})

t.test('sluice_reader cannot see the hashes of keys', async (t) => {
  await as(root, 'sluice_reader', (reader) =>
    t.rejects(sql`SELECT FROM sluice.keys`.execute(reader), INSUFFICIENT_PRIVILEGE),
  )
})

t.test('sluice_maintenance deletes records and cannot insert one', async (t) => {
  await as(root, 'sluice_maintenance', async (maintenance) => {
    await sql`DELETE FROM sluice.records WHERE false`.execute(maintenance)
    await t.rejects(record.execute(maintenance), INSUFFICIENT_PRIVILEGE)
  })
})

t.test('sluice_maintenance and sluice_backup record the results of their jobs', async (t) => {
  for (const role of ['sluice_maintenance', 'sluice_backup'] as const) {
    const run = { job: 'retention', succeeded: true, seconds: 1, figures: {}, totals: {} } as const
    await as(root, role, (db) => t.resolves(recordJobRun(db as never, run)))
  }
})

t.test('sluice_backup reads every table and cannot insert a record', async (t) => {
  await as(root, 'sluice_backup', async (backup) => {
    await sql`SELECT FROM sluice.records, sluice.keys, sluice.epochs, sluice.migrations`.execute(backup)
    await t.rejects(record.execute(backup), INSUFFICIENT_PRIVILEGE)
  })
})

t.test('the five roles may connect, and another role may not', async (t) => {
  const { rows } = await sql`
    SELECT has_database_privilege(${'pg_monitor'}, current_database(), 'CONNECT') AS other,
           bool_and(has_database_privilege(name, current_database(), 'CONNECT')) AS ours
    FROM unnest(${roleNames}::text[]) AS name`.execute(root)
  t.match(rows, [{ other: false, ours: true }])
})

// Roles belong to the whole server, and other tests use the shared one. So these tests have their own.
t.test('with a separate server', async (t) => {
  const own = await openOwnServer(t)
  const root = connect(own.superUrl)
  t.teardown(() => root.destroy())

  t.test('ensureRoles removes attributes that a role must not have', async (t) => {
    await sql`ALTER ROLE sluice_api CREATEDB CREATEROLE BYPASSRLS`.execute(root)
    await ensureRoles(root, {})
    const { rows } = await sql`
      SELECT rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls
      FROM pg_roles WHERE rolname = ANY (${roleNames})`.execute(root)
    t.equal(rows.length, 5)
    for (const row of rows) {
      t.match(row, { rolcanlogin: true, rolsuper: false, rolcreatedb: false })
      t.match(row, { rolcreaterole: false, rolreplication: false, rolbypassrls: false })
    }
  })

  t.test('sluice_backup is a member of pg_read_all_data, and ensureRoles restores a revoked membership', async (t) => {
    const isMember = async () =>
      (await sql`SELECT pg_has_role('sluice_backup', 'pg_read_all_data', 'USAGE') AS member`.execute(root)).rows
    t.same(await isMember(), [{ member: true }])
    await sql`REVOKE pg_read_all_data FROM sluice_backup`.execute(root)
    await ensureRoles(root, {})
    t.same(await isMember(), [{ member: true }])
  })

  t.test('a password is set only if it differs', async (t) => {
    await ensureRoles(root, { sluice_reader: 'first' })
    const first = await verifier()
    await ensureRoles(root, { sluice_reader: 'first' })
    t.equal(await verifier(), first)

    await ensureRoles(root, { sluice_reader: 'second' })
    await t.rejects(login('first'), { code: '28P01' })
    await t.resolves(login('second'))
  })

  t.test('a role without a given password keeps its current one', async (t) => {
    await ensureRoles(root, { sluice_reader: 'kept' })
    await ensureRoles(root, { sluice_api: 'another' })
    await t.resolves(login('kept'))
  })

  t.test('passwords are not sent to the server in plain text, so its log does not contain them', async (t) => {
    await sql`SET log_statement = 'all'`.execute(root)
    await ensureRoles(root, { sluice_reader: 'never-in-a-log' })
    const log = await readFile(join(own.folder, 'postgres', 'server.log'), 'utf8')
    t.match(log, /ALTER ROLE "sluice_reader" PASSWORD 'SCRAM-SHA-256\$/)
    t.notMatch(log, /never-in-a-log/)
  })

  t.test('a password with a character outside ASCII is refused', (t) =>
    t.rejects(ensureRoles(root, { sluice_reader: 'pässword' }), /visible ASCII/),
  )

  async function verifier() {
    const { rows } = await sql<{ rolpassword: string }>`
      SELECT rolpassword FROM pg_authid WHERE rolname = 'sluice_reader'`.execute(root)
    return rows[0]?.rolpassword
  }

  async function login(password: string) {
    const db = connect(Object.assign(new URL(own.superUrl), { username: 'sluice_reader', password }).href)
    await sql`SELECT 1`.execute(db).finally(() => db.destroy())
  }
})

async function as<T>(root: Kysely<unknown>, role: RoleName, work: (db: Kysely<unknown>) => Promise<T>): Promise<void> {
  await sql`SET ROLE ${sql.id(role)}`.execute(root)
  await work(root).finally(() => sql`RESET ROLE`.execute(root))
}
