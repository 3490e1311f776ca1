import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { hashKey } from '../../src/access/key.ts'
import { issueKey, revokeKey } from '../../src/access/manage-keys.ts'
import { ensureFirstKey } from '../../src/commands/first-key.ts'
import { loadConfig } from '../../src/config.ts'
import { selectKeys } from '../../src/data/keys.ts'
import { keyFileOf, LOCAL_FOLDER } from '../../src/lib/local-folder.ts'
import { connect as connectAsServer } from '../../src/postgres/connect.ts'
import { runCommand } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { untilBlocked } from '../helpers/locks.ts'
import { createDatabase } from '../helpers/postgres.ts'

const database = await createDatabase(t)
const options = { name: 'test', connections: 2, statementTimeoutMs: 0, onError: () => {} }
const db = connectAsServer({ url: database.ownerUrl, ...options })
const root = connect(database.superUrl, 2)
t.teardown(() => Promise.all([db.destroy(), root.destroy()]))
t.beforeEach(() => sql`TRUNCATE sluice.keys`.execute(root))
const config = loadConfig({})
const hashes = async () => (await selectKeys(db)).map(({ hash }) => hash.toString('hex'))

/** A key file of this test that does not exist yet. */
async function prepare(t: Test) {
  const folder = await mkdtemp(join(tmpdir(), "sluice'key-"))
  t.teardown(() => rm(folder, { recursive: true }))
  const file = join(folder, 'below', 'key')
  const warnings: string[] = []
  const ensure = (embedded: boolean) =>
    ensureFirstKey(db, config, { embedded, file, warn: (text) => warnings.push(text) })
  const read = async () => (await readFile(file, 'utf8')).trim()
  return { file, warnings, ensure, read }
}

async function write(file: string, content: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, content, { mode: 0o644 })
}

const EXPRESSION = /^\$\(cat '.*sluice'\\''key-.*\/below\/key'\)$/

t.test('the first start creates a key file that only its owner can read, and says how to read it', async (t) => {
  for (const embedded of [true, false]) {
    await sql`TRUNCATE sluice.keys`.execute(root)
    const { file, ensure, read, warnings } = await prepare(t)
    const shellExpression = await ensure(embedded)
    const token = await read()
    t.same(await hashes(), [hashKey(token)])
    t.equal((await stat(file)).mode & 0o777, 0o600)
    t.match(shellExpression, EXPRESSION)
    t.notMatch(shellExpression, token)

    t.equal(await ensure(embedded), shellExpression, 'the next start uses the same key')
    t.equal(await read(), token)
    t.equal((await hashes()).length, 1)
    t.same(warnings, [])
  }
})

t.test('of two first starts at the same time, both use the same key', async (t) => {
  const { ensure, read } = await prepare(t)
  const lock = await root.startTransaction().execute()
  await sql`LOCK TABLE sluice.keys IN SHARE ROW EXCLUSIVE MODE`.execute(lock)
  const both = Promise.all([ensure(true), ensure(true)])
  await Promise.race([untilBlocked(root, 'sluice.keys', 2), both])
  await lock.rollback().execute()
  t.match(await both, [EXPRESSION, EXPRESSION])
  t.same(await hashes(), [hashKey(await read())])
})

// It was overwritten: the key of the other database was lost.
t.test(
  'a file with an unknown key is kept under another name, and the new one does not get its permissions',
  async (t) => {
    const { file, ensure, read, warnings } = await prepare(t)
    await write(file, 'of another database\n')
    t.match(await ensure(true), EXPRESSION)
    t.same(await hashes(), [hashKey(await read())])
    t.equal((await stat(file)).mode & 0o777, 0o600)
    const [kept] = (await readdir(dirname(file))).filter((name) => name !== 'key')
    t.equal(await readFile(join(dirname(file), kept ?? ''), 'utf8'), 'of another database\n')
    t.match(warnings, [new RegExp(`is unknown to this database\\. It is now in .*${kept}, and there is a new key$`)])
  },
)

t.test('an external database that already has keys gets no new key, and the file is kept', async (t) => {
  const { file, ensure, read, warnings } = await prepare(t)
  await issueKey(db, { name: 'other', scopes: ['read'], sourcePrefixes: [], expiresAt: null })
  const before = await hashes()
  t.equal(await ensure(false), '$SLUICE_KEY')
  t.same(warnings, [])
  await write(file, 'of another database\n')
  t.equal(await ensure(false), '$SLUICE_KEY')
  t.match(warnings, [
    /is unknown to this database, which has others\. Use one of them, or create one with: sluice keys/,
  ])
  t.same(await hashes(), before)
  t.equal(await read(), 'of another database')
})

t.test('a key that was revoked or has expired is not replaced', async (t) => {
  for (const state of ['revoked', 'expired']) {
    const { ensure, warnings, file, read } = await prepare(t)
    const expiresAt = state === 'expired' ? new Date(Date.now() - 1) : null
    const { id, token } = await issueKey(db, { name: state, scopes: ['read'], sourcePrefixes: [], expiresAt })
    if (state === 'revoked') await revokeKey(db, id)
    await write(file, token)
    const before = await hashes()
    t.equal(await ensure(true), '$SLUICE_KEY')
    t.match(warnings, [new RegExp(`is ${state}\\. Use another key, or create one with`)])
    t.same(await hashes(), before)
    t.equal(await read(), token)
  }
})

// The key was created first. Nobody could read it, and it stayed valid.
t.test('if the file cannot be written or read, there is a sentence, and no key is created', async (t) => {
  const { file, ensure } = await prepare(t)
  // A file where the folder should be: this fails for root too.
  await writeFile(dirname(file), '')
  await t.rejects(ensure(true), { message: /^The key file .* cannot be read \(ENOTDIR\)\. Make it readable/ })
  await rm(dirname(file))
  await mkdir(file, { recursive: true })
  await t.rejects(ensure(true), { message: /^The key file .* cannot be read \(EISDIR\)/ })
  await rm(dirname(file), { recursive: true })
  await symlink('/nowhere/at/all', dirname(file))
  await t.rejects(ensure(true), {
    message: /^The first key cannot be written to .* \(E[A-Z]+\), so none was created\. Let/,
  })
  t.same(await hashes(), [])
})

t.test('if the key cannot be inserted, the file is removed', async (t) => {
  const { file, ensure } = await prepare(t)
  await sql`ALTER TABLE sluice.keys ADD CONSTRAINT broken CHECK (name <> 'local')`.execute(root)
  await t.rejects(ensure(true), { code: '23514' })
  await sql`ALTER TABLE sluice.keys DROP CONSTRAINT broken`.execute(root)
  t.same(await readdir(dirname(file)), [])
  t.match(await ensure(true), EXPRESSION)
})

t.test('each database has its own key file, regardless of the user in the URL', async (t) => {
  const urls = [
    'postgres://one:secret@db.example/sluice',
    'postgres://db.example:5433/sluice',
    'postgres://db.example/other',
    'postgres://other.example/sluice',
    'postgres:///sluice?host=/run/postgresql',
    'postgres://one@db.example',
  ]
  const files = urls.map(keyFileOf)
  t.equal(new Set([...files, keyFileOf(undefined)]).size, urls.length + 1)
  for (const file of files) t.match(file, /\/\.sluice\/keys\/[0-9a-f]{12}$/)
  t.equal(keyFileOf(undefined), join(LOCAL_FOLDER, 'key'))
  t.equal(keyFileOf('postgresql://two:other@db.example:5432/sluice?sslmode=require'), files[0])
  t.equal(keyFileOf('postgres://db.example/one'), files[5], 'the database with the name of the user')
})

t.test('npm start and sluice load use the key file of DATABASE_URL', async (t) => {
  const file = keyFileOf(database.ownerUrl)
  t.teardown(() => rm(file, { force: true }))
  const server = runCommand(t, ['serve', '--migrate'], {
    DATABASE_URL: database.ownerUrl,
    PORT: '0',
    METRICS_PORT: '0',
  })
  const { msg } = await server.log(({ msg }) => String(msg).startsWith('Server listening at '))
  t.same(await hashes(), [hashKey((await readFile(file, 'utf8')).trim())])
  const env = { DATABASE_URL: database.ownerUrl, SLUICE_URL: String(msg).replace('Server listening at ', '') }
  const load = runCommand(t, ['load', '-'], env, [], '{"source":"s","type":"t"}\n')
  t.equal(await load.exit, 0, load.stderr())
  server.child.kill('SIGINT')
  await server.exit
  t.match(server.stderr(), `$(cat '${file.slice(file.indexOf('.sluice'))}')`)
})

// A URL with a socket, or a wrong one, led to the key of the embedded database, and so stored records there.
t.test('sluice load uses no key of another database', async (t) => {
  for (const [DATABASE_URL, message] of [
    [
      'postgres://user@/no-such-database?host=/run/postgresql',
      /There is no API key in \S*\.sluice\/keys\/[0-9a-f]{12}\./,
    ],
    ['postgres://user:a@b@host/database', /DATABASE_URL contains an unencoded @/],
  ] as const) {
    const load = runCommand(t, ['load', '-'], { DATABASE_URL, SLUICE_URL: 'http://127.0.0.1:1' })
    t.equal(await load.exit, 1)
    t.match(load.stderr(), message)
  }
})
