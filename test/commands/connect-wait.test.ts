import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { makeFolder } from '../helpers/backup.ts'
import { runCommand } from '../helpers/command.ts'
import { openGate } from '../helpers/gate.ts'
import { jobs, write } from '../helpers/maintain.ts'
import { credentials, startObjectStorage } from '../helpers/object-storage.ts'
import { createDatabase } from '../helpers/postgres.ts'

// A network policy admits a pod about a second after its start. Until then, its connections are refused.
const database = await createDatabase(t)

t.test('commands of jobs wait for the database, and write nothing about it', async (t) => {
  const policies = await write(t, '[{ "type": "click", "maxAge": "30d" }]')
  const { ownerUrl, maintenanceUrl } = database
  const cases = [
    [['migrate'], ownerUrl, ['nothing to migrate']],
    [['epoch', 'begin'], ownerUrl, [/a new epoch has begun/]],
    [['bootstrap', '--key'], ownerUrl, ['the first API key exists']],
    [['maintain', '--policies', policies, '--dry-run'], maintenanceUrl, ['would be deleted', /^dry run/]],
    [['maintain', '--policies', policies], maintenanceUrl, ['deleted', 'deleted in total']],
  ] as const
  await Promise.all(
    cases.map(async ([args, url, messages]) => {
      const gate = await openGate(t, url, 1)
      const env = { DATABASE_URL: gate.through(url), CONNECT_WAIT_SECONDS: '60', SLUICE_BOOTSTRAP_KEY: 'k'.repeat(20) }
      const command = runCommand(t, [...args], env)
      t.equal(await command.exit, 0, `${args}: ${command.stderr()}`)
      t.equal(gate.refused(), 1, `${args}`)
      t.match(
        command.logs().map(({ msg }) => msg),
        messages,
        `${args}`,
      )
      t.equal(command.stderr(), '')
    }),
  )
})

t.test('bootstrap waits for the database', async (t) => {
  // The owner may not change roles: this is an answer that only a server gives.
  const passwords = ['OWNER', 'API', 'MAINTENANCE', 'BACKUP', 'READER'].map((role) => [`SLUICE_${role}_PASSWORD`, 'x'])
  const gate = await openGate(t, database.ownerUrl, 1)
  const env = { ...Object.fromEntries(passwords), DATABASE_URL: gate.through(database.ownerUrl) }
  const command = runCommand(t, ['bootstrap'], { ...env, CONNECT_WAIT_SECONDS: '60' })
  t.equal(await command.exit, 1)
  t.equal(gate.refused(), 1)
  t.match(command.stderr(), /permission denied/)
})

t.test('an upload waits for the object storage, and then for the database', async (t) => {
  const storage = await startObjectStorage(t)
  const folder = await makeFolder(t)
  const name = 'sluice-20261126T013000Z'
  await mkdir(join(folder, name))
  const files = { 'sluice.dump': 'a dump', 'manifest.json': '{}' }
  const sums = Object.entries(files).map(
    ([file, text]) => `${createHash('sha256').update(text).digest('hex')}  ${file}\n`,
  )
  for (const [file, text] of Object.entries({ ...files, SHA256SUMS: sums.join('') }))
    await writeFile(join(folder, name, file), text)

  const toStorage = await openGate(t, storage.url, 1)
  const toDatabase = await openGate(t, database.ownerUrl, 1)
  const upload = runCommand(t, ['backups', 'upload', folder], {
    DATABASE_URL: toDatabase.through(database.ownerUrl),
    BACKUP_BUCKET_URL: toStorage.through(storage.url),
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    CONNECT_WAIT_SECONDS: '60',
  })
  t.equal(await upload.exit, 0, upload.stderr())
  t.equal(toStorage.refused() + toDatabase.refused(), 2)
  t.match(upload.logs(), { length: 1 })
  t.ok((await jobs(database)).some(({ job, succeeded }) => job === 'backup_upload' && succeeded))
})

t.test('the wait ends, and the reason is on stderr', async (t) => {
  const gate = await openGate(t, database.ownerUrl, Number.POSITIVE_INFINITY)
  const env = { DATABASE_URL: gate.through(database.ownerUrl), CONNECT_WAIT_SECONDS: '1' }
  const command = runCommand(t, ['migrate'], env)
  t.equal(await command.exit, 1)
  t.match(command.stderr(), /^sluice: no connection to PostgreSQL: .*\.\n$/)
  t.ok(gate.refused() > 1)
})
