import { cp, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { admits } from '../../src/lib/source-prefix.ts'
import { migrate, pendingMigrations } from '../../src/postgres/migrate.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase, createEmptyDatabase } from '../helpers/postgres.ts'

const migrations = new URL('../../db/migrations/', import.meta.url)
const all = (await readdir(migrations)).map((name) => name.replace('.sql', '')).sort()

t.test('in an empty database, everything is pending, for the owner and for the API', async (t) => {
  const { owner, api } = await emptyDatabase(t)
  t.same(await pendingMigrations(owner), all)
  t.same(await pendingMigrations(api), all)
})

t.test('looking for pending migrations creates nothing', async (t) => {
  const { owner } = await emptyDatabase(t)
  await pendingMigrations(owner)
  t.same((await sql`SELECT FROM pg_namespace WHERE nspname = 'sluice'`.execute(owner)).rows, [])
})

t.test('migrate runs each file once and returns the names', async (t) => {
  const { owner, api } = await emptyDatabase(t)
  t.same(await migrate(owner), all)
  t.same(await migrate(owner), [])
  t.same(await pendingMigrations(api), [])
})

t.test('of several processes that migrate at once, one does the work', async (t) => {
  const { ownerUrl } = await emptyDatabase(t)
  const pods = Array.from({ length: 8 }, () => connect(ownerUrl))
  t.teardown(() => Promise.all(pods.map((pod) => pod.destroy())))
  // They connect first, so that they really begin together.
  await Promise.all(pods.map((pod) => sql`SELECT 1`.execute(pod)))
  const migrateTogether = async () => (await Promise.all(pods.map((pod) => migrate(pod)))).flat()
  t.same(await migrateTogether(), all)
  // Only the privileges are granted again. Two concurrent grants would collide: "tuple concurrently updated".
  for (let round = 0; round < 5; round++) t.same(await migrateTogether(), [])
})

// The statements that grant and revoke came from a join without ORDER BY. With a hash join, the privileges were granted first and
// then revoked, and after a migration the API had none.
t.test('privileges do not depend on the join method that PostgreSQL chooses', async (t) => {
  const methods = ['nestloop', 'hashjoin', 'mergejoin']
  for (const method of methods) {
    const { owner, api } = await emptyDatabase(t)
    for (const other of methods) await sql.raw(`SET enable_${other} = ${other === method}`).execute(owner)
    await migrate(owner)
    t.same(await pendingMigrations(api), [], method)
  }
})

t.test('if the API has no privileges on the schema yet, everything is pending', async (t) => {
  const { owner, api } = await migratedDatabase(t)
  await sql`REVOKE USAGE ON SCHEMA sluice FROM sluice_api`.execute(owner)
  t.same(await pendingMigrations(api), all)
})

t.test('a lost privilege is granted again, even if no migration is pending', async (t) => {
  const { owner, api } = await migratedDatabase(t)
  await sql`REVOKE INSERT ON sluice.records FROM sluice_api`.execute(owner)
  t.same(await migrate(owner), [])
  await t.resolves(
    sql`INSERT INTO sluice.records (n, epoch, source, id, type) VALUES (1, 1, 's', 'i', 't')`.execute(api),
  )
})

t.test('a failed migration is reported with its name and cause, and the whole run is rolled back', async (t) => {
  const { owner } = await migratedDatabase(t)
  const files = await migrationsAnd(t, {
    '9001_good.sql': 'CREATE TABLE sluice.good ();',
    '9002_bad.sql': 'CREATE TABLE sluice.bad (); SELECT 1/0;',
  })
  await t.rejects(migrate(owner, files), {
    message: 'Migration 9002_bad failed: division by zero',
    cause: { code: '22012' },
  })
  t.same(await pendingMigrations(owner, files), ['9001_good', '9002_bad'])
  t.same((await sql`SELECT FROM pg_tables WHERE tablename IN ('good', 'bad')`.execute(owner)).rows, [])
})

// A statement that waits for a table blocks all later ones. So an upgrade during a backup would stop ingestion until the backup
// ends.
t.test('a migration that a backup blocks fails after the lock timeout, and writes continue', async (t) => {
  const { owner, superUrl, api } = await migratedDatabase(t)
  const files = await migrationsAnd(t, { '9001_alter.sql': 'ALTER TABLE sluice.epochs ADD COLUMN note text' })
  const backup = connect(superUrl)
  t.teardown(() => backup.destroy())
  const reading = await backup.startTransaction().execute()
  await sql`LOCK TABLE sluice.epochs IN ACCESS SHARE MODE`.execute(reading)
  await t.rejects(migrate(owner, files), { message: /9001_alter failed/, cause: { code: '55P03' } })
  await t.resolves(sql`SELECT sluice.current_epoch()`.execute(api))
  await reading.rollback().execute()
  t.same(await migrate(owner, files), ['9001_alter'])
})

t.test('after a failed migration the lock is free, and the corrected migration runs', async (t) => {
  const { owner, ownerUrl } = await migratedDatabase(t)
  await t.rejects(migrate(owner, await migrationsAnd(t, { '9001_next.sql': 'SELECT 1/0' })))
  const other = connect(ownerUrl)
  t.teardown(() => other.destroy())
  const corrected = await migrationsAnd(t, { '9001_next.sql': 'CREATE TABLE sluice.next ()' })
  t.same(await migrate(other, corrected), ['9001_next'])
})

t.test('in a database that is ahead of this code, nothing is pending, and migrate runs nothing', async (t) => {
  const { owner, api } = await migratedDatabase(t)
  const newer = await migrationsAnd(t, { '9001_newer.sql': 'CREATE TABLE sluice.newer ()' })
  t.same(await migrate(owner, newer), ['9001_newer'])

  t.same(await pendingMigrations(api), [])
  t.same(await migrate(owner), [])
})

t.test('a database whose history differs from the files is refused', async (t) => {
  const { owner } = await migratedDatabase(t)
  await migrate(owner, await migrationsAnd(t, { '9001_theirs.sql': 'SELECT 1' }))
  await t.rejects(migrate(owner, await migrationsAnd(t, { '9002_ours.sql': 'SELECT 1' })), /9001_theirs is missing/)
})

t.test('a file that is not a migration is ignored', async (t) => {
  const { owner } = await migratedDatabase(t)
  const files = await migrationsAnd(t, { 'README.md': 'not SQL', '0003_draft.sql.orig': 'not SQL' })
  t.same(await pendingMigrations(owner, files), [])
})

// Before, a prefix matched every source that starts with it. Until it is replaced, a pod of the old version reads the new rows
// as well.
t.test('after an upgrade, a key may use the same sources as before, also with the old version', async (t) => {
  const { owner } = await emptyDatabase(t)
  const folder = t.testdir()
  for (const name of all.filter((name) => name < '0008'))
    await cp(new URL(`${name}.sql`, migrations), join(folder, `${name}.sql`))
  // The privileges of this version are for tables that the old one lacks. The migrations before them are committed.
  await t.rejects(migrate(owner, pathToFileURL(`${folder}/`)), { code: '42P01' })
  const before = [['shop', 'mine/'], ['urn:x:', 'com.x.'], ['lit*'], [''], []]
  for (const [n, prefixes] of before.entries()) {
    await sql`
      INSERT INTO sluice.keys (id, name, hash, scopes, source_prefixes)
      VALUES (${n}::text, 'old', sha256(${`${n}`}::text::bytea), '{read}', ${prefixes}::text[])`.execute(owner)
  }
  t.same(
    await migrate(owner),
    all.filter((name) => name >= '0008'),
  )
  const { rows } = await sql<{ prefixes: string[] }>`
    SELECT source_prefixes AS prefixes FROM sluice.keys ORDER BY id`.execute(owner)
  const after = rows.map(({ prefixes }) => prefixes)
  t.same(after, [['shop', 'shop*', 'mine/'], ['urn:x:', 'com.x.'], ['lit**'], ['', '*'], []])

  const sources = [
    'shop',
    'shop/1',
    'shopping',
    'sho',
    'mine/1',
    'mine',
    'urn:x:1',
    'com.x.y',
    'com.xy',
    'lit*1',
    'little',
    'é',
  ]
  const matches = (prefixes: string[], source: string) => prefixes.some((prefix) => source.startsWith(prefix))
  for (const [n, old] of before.entries()) {
    const prefixes = after[n] as string[]
    const expected = sources.filter((source) => old.length === 0 || matches(old, source))
    t.same(
      sources.filter((source) => admits(prefixes, source)),
      expected,
      `${old}: the new version`,
    )
    // Except for a prefix that ended in a star, which hardly any source has.
    if (!old.includes('lit*'))
      t.same(
        sources.filter((source) => prefixes.length === 0 || matches(prefixes, source)),
        expected,
        `${old}: the old version`,
      )
  }
})

async function migratedDatabase(t: Test) {
  const database = await createDatabase(t)
  return { ...database, ...connections(t, database) }
}

async function emptyDatabase(t: Test) {
  const database = await createEmptyDatabase(t)
  return { ...database, ...connections(t, database) }
}

function connections(t: Test, { ownerUrl, apiUrl }: { ownerUrl: string; apiUrl: string }) {
  const owner = connect(ownerUrl)
  const api = connect(apiUrl)
  t.teardown(() => Promise.all([owner.destroy(), api.destroy()]))
  return { owner, api }
}

async function migrationsAnd(t: Test, files: Record<string, string>): Promise<URL> {
  const folder = t.testdir()
  await cp(migrations, pathToFileURL(folder), { recursive: true })
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content)
  return pathToFileURL(`${folder}/`)
}
