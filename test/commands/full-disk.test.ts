import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { sql } from 'kysely'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { credentials, FOLDER, startObjectStorage } from '../helpers/object-storage.ts'
import { skipUnless } from '../helpers/skipping.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const skip = skipUnless(existsSync('/dev/full'), 'there is no /dev/full')
const full = skip === false ? openSync('/dev/full', 'w') : 0
t.teardown(() => {
  if (skip === false) closeSync(full)
})

const { app, database, key, post } = await createApp(t)
await post({ source: 'shop', type: 't' })
const url = await app.listen({ port: 0 })
const storage = await startObjectStorage(t)
storage.objects.set(`${FOLDER}/sluice-20261126T013000Z/SHA256SUMS`, Buffer.from(''))

const files = t.testdir({ 'one.ndjson': '{"source":"shop","type":"t","id":"1"}', 'policies.json': '[{"maxAge":"1d"}]' })
const policies = `${files}/policies.json`

/** Runs a command whose stdout is a file on a full disk. */
async function run(args: string[]) {
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      DATABASE_URL: database.ownerUrl,
      SLUICE_KEY: key,
      BACKUP_BUCKET_URL: storage.url,
      AWS_ACCESS_KEY_ID: credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    },
    stdio: ['ignore', full, 'pipe'],
  })
  const exit = once(child, 'exit')
  const stderr = (await (child.stderr as Readable).toArray()).join('')
  const [code] = await exit
  return { code, stderr }
}

// The key worked, but nobody had it.
t.test('a key that cannot be printed is revoked', { skip }, async (t) => {
  const { code, stderr } = await run(['keys', 'create', '--name', 'lost', '--scope', 'read'])
  t.equal(code, 1)
  t.match(stderr, /^sluice: The key could not be printed, so it was revoked: .*ENOSPC/m)
  const db = connect(database.ownerUrl)
  t.teardown(() => db.destroy())
  const { rows } = await sql<{ revoked: boolean }>`
    SELECT revoked_at IS NOT NULL AS revoked FROM sluice.keys WHERE name = 'lost'`.execute(db)
  t.same(rows, [{ revoked: true }])
})

t.test('a command whose output is lost fails', { skip }, async (t) => {
  for (const args of [
    ['keys', 'list'],
    ['keys', 'list', '--json'],
    ['export', '--url', url],
    ['load', '--url', url, `${files}/one.ndjson`],
    ['backups', 'list'],
    ['maintain', '--dry-run', '--policies', policies],
  ]) {
    const { code, stderr } = await run(args)
    t.equal(code, 1, args.join(' '))
    t.equal(stderr.match(/ENOSPC/g)?.length, 1, args.join(' '))
  }
})

// Retention must not fail for lack of space, which it frees.
t.test('a command that only logs what it has done succeeds, and says that the log is lost', { skip }, async (t) => {
  for (const args of [['migrate'], ['maintain', '--policies', policies], ['epoch', 'begin']]) {
    const { code, stderr } = await run(args)
    t.equal(code, 0, args.join(' '))
    t.match(stderr, /^sluice: log lines could not be written to stdout: ENOSPC.*\.\n$/, args.join(' '))
  }
})
