import { cp, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { migrate, pendingMigrations } from '../../src/data/migrate.ts'
import { admits } from '../../src/lib/source-prefix.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase, createEmptyDatabase } from '../helpers/postgres.ts'

const migrations = new URL('../../db/migrations/', import.meta.url)
const all = (await readdir(migrations)).map((name) => name.replace('.sql', '')).sort()

t.test('an empty database: everything is pending, for the owner and for the API', async (t) => {
  const { owner, api } = await emptyDatabase(t)
  t.same(await pendingMigrations(owner), all)
  t.same(await pendingMigrations(api), all)
})

t.test('to ask what is pending makes nothing', async (t) => {
  const { owner } = await emptyDatabase(t)
  await pendingMigrations(owner)
  t.same((await sql`SELECT FROM pg_namespace WHERE nspname = 'sluice'`.execute(owner)).rows, [])
})

t.test('migrating runs every file once and says which', async (t) => {
  const { owner, api } = await emptyDatabase(t)
  t.same(await migrate(owner), all)
  t.same(await migrate(owner), [])
  t.same(await pendingMigrations(api), [])
})

t.test('many that migrate at once: one does the work, the others find it done', async (t) => {
  const { ownerUrl } = await emptyDatabase(t)
  const pods = Array.from({ length: 8 }, () => connect(ownerUrl))
  t.teardown(() => Promise.all(pods.map((pod) => pod.destroy())))
  // Connected beforehand, so that they really begin together.
  await Promise.all(pods.map((pod) => sql`SELECT 1`.execute(pod)))
  const migrateTogether = async () => (await Promise.all(pods.map((pod) => migrate(pod)))).flat()
  t.same(await migrateTogether(), all)
  // Nothing but the privileges is left to do, which collide if two grant at once: tuple concurrently updated.
  for (let round = 0; round < 5; round++) t.same(await migrateTogether(), [])
})

// The statements came out of a join without an order: where the planner chose to hash, what was granted was revoked
// afterwards, and an API whose database had just been migrated was denied everything.
t.test('what each role may do does not hang on how PostgreSQL plans', async (t) => {
  const methods = ['nestloop', 'hashjoin', 'mergejoin']
  for (const method of methods) {
    const { owner, api } = await emptyDatabase(t)
    for (const each of methods) await sql.raw(`SET enable_${each} = ${each === method}`).execute(owner)
    await migrate(owner)
    t.same(await pendingMigrations(api), [], method)
  }
})

t.test('a schema that the API may not look into yet: everything is pending', async (t) => {
  const { owner, api } = await migratedDatabase(t)
  await sql`REVOKE USAGE ON SCHEMA sluice FROM sluice_api`.execute(owner)
  t.same(await pendingMigrations(api), all)
})

t.test('a privilege that was lost is granted again, with nothing to migrate', async (t) => {
  const { owner, api } = await migratedDatabase(t)
  await sql`REVOKE INSERT ON sluice.records FROM sluice_api`.execute(owner)
  t.same(await migrate(owner), [])
  await t.resolves(
    sql`INSERT INTO sluice.records (n, epoch, source, id, type) VALUES (1, 1, 's', 'i', 't')`.execute(api),
  )
})

t.test('a migration that fails is named, keeps its cause, and takes the others of its run with it', async (t) => {
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

// What waits for a table makes all who come later wait, too: an upgrade during a backup would stop ingestion until that ends.
t.test('a migration that meets a backup fails in seconds, and stops nobody from writing', async (t) => {
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

t.test('after a failed migration the lock is free and the mended one runs', async (t) => {
  const { owner, ownerUrl } = await migratedDatabase(t)
  await t.rejects(migrate(owner, await migrationsAnd(t, { '9001_next.sql': 'SELECT 1/0' })))
  const other = connect(ownerUrl)
  t.teardown(() => other.destroy())
  const mended = await migrationsAnd(t, { '9001_next.sql': 'CREATE TABLE sluice.next ()' })
  t.same(await migrate(other, mended), ['9001_next'])
})

t.test('a database that is ahead of this code: nothing is pending, and migrating leaves it as it is', async (t) => {
  const { owner, api } = await migratedDatabase(t)
  const newer = await migrationsAnd(t, { '9001_newer.sql': 'CREATE TABLE sluice.newer ()' })
  t.same(await migrate(owner, newer), ['9001_newer'])

  t.same(await pendingMigrations(api), [])
  t.same(await migrate(owner), [])
})

t.test('a database that went another way is refused', async (t) => {
  const { owner } = await migratedDatabase(t)
  await migrate(owner, await migrationsAnd(t, { '9001_theirs.sql': 'SELECT 1' }))
  await t.rejects(migrate(owner, await migrationsAnd(t, { '9002_ours.sql': 'SELECT 1' })), /9001_theirs is missing/)
})

t.test('a file that is no migration is passed over', async (t) => {
  const { owner } = await migratedDatabase(t)
  const files = await migrationsAnd(t, { 'README.md': 'not SQL', '0003_draft.sql.orig': 'not SQL' })
  t.same(await pendingMigrations(owner, files), [])
})

// Prefixes were mere beginnings before. A pod of the version before reads the new rows, too, until it is replaced.
t.test(
  'an upgrade locks no sender out: each source that a key could use stays open, to the old version too',
  async (t) => {
    const { owner } = await emptyDatabase(t)
    const folder = t.testdir()
    for (const name of all.filter((name) => name < '0008'))
      await cp(new URL(`${name}.sql`, migrations), join(folder, `${name}.sql`))
    await migrate(owner, pathToFileURL(`${folder}/`))
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
    const open = (prefixes: string[], source: string) => prefixes.some((prefix) => source.startsWith(prefix))
    for (const [n, old] of before.entries()) {
      const prefixes = after[n] as string[]
      const expected = sources.filter((source) => old.length === 0 || open(old, source))
      t.same(
        sources.filter((source) => admits(prefixes, source)),
        expected,
        `${old}: neither more nor less`,
      )
      // Not of one that ended in a star, which hardly any source has.
      if (!old.includes('lit*'))
        t.same(
          sources.filter((source) => prefixes.length === 0 || open(prefixes, source)),
          expected,
          `${old}: the old version`,
        )
    }
  },
)

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
