import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { hashKey } from '../../src/access/key.ts'
import { ensureFirstKey } from '../../src/commands/first-key.ts'
import { loadConfig } from '../../src/config.ts'
import { selectKeys } from '../../src/data/keys.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

const db = connect((await createDatabase(t)).ownerUrl) as never
t.teardown(() => (db as { destroy(): Promise<void> }).destroy())
const folder = await mkdtemp(join(tmpdir(), "sluice'key-"))
t.teardown(() => rm(folder, { recursive: true }))
const file = join(folder, 'below', 'key')
const config = loadConfig({})
const hashes = async () => (await selectKeys(db)).map(({ hash }) => hash.toString('hex'))

t.test('the first start creates a key file that only its owner can read, and says how to read it', async (t) => {
  const shellExpression = await ensureFirstKey(db, config, { embedded: true, file })
  const token = (await readFile(file, 'utf8')).trim()
  t.same(await hashes(), [hashKey(token)])
  t.equal((await stat(file)).mode & 0o777, 0o600)
  t.match(shellExpression, /^\$\(cat '.*sluice'\\''key-.*\/below\/key'\)$/)
  t.notMatch(shellExpression, token)
})

t.test('the next start keeps the key', async (t) => {
  const before = await readFile(file, 'utf8')
  await ensureFirstKey(db, config, { embedded: true, file })
  t.equal(await readFile(file, 'utf8'), before)
  t.equal((await hashes()).length, 1)
})

t.test('a new key does not get the permissions of an existing file', async (t) => {
  await rm(file)
  await writeFile(file, 'of another database\n', { mode: 0o644 })
  await ensureFirstKey(db, config, { embedded: true, file })
  t.ok((await hashes()).includes(hashKey((await readFile(file, 'utf8')).trim())))
  t.equal((await stat(file)).mode & 0o777, 0o600)
})

t.test('an external database that already has keys gets no new key, and the file is kept', async (t) => {
  await writeFile(file, 'of another database\n')
  const before = await hashes()
  t.equal(await ensureFirstKey(db, config, { embedded: false, file }), '$SLUICE_KEY')
  t.same(await hashes(), before)
  t.equal(await readFile(file, 'utf8'), 'of another database\n')
})
