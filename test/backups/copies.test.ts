import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openBucket } from '../../src/backups/bucket.ts'
import { downloadBackup, listBackups, uploadBackups } from '../../src/backups/copies.ts'
import { selectJobs } from '../../src/data/jobs.ts'
import { connect } from '../../src/postgres/connect.ts'
import { makeFolder } from '../helpers/backup.ts'
import { runCommand } from '../helpers/command.ts'
import { credentials, FOLDER, startObjectStorage } from '../helpers/object-storage.ts'
import { createDatabase } from '../helpers/postgres.ts'

const NAME = 'sluice-20261126T013000Z'

t.test('a backup is uploaded file by file, its checksums last, and downloads unchanged', async (t) => {
  const { storage, bucket, folder } = await start(t)
  const files = await makeBackup(folder, NAME, 1000)
  t.match(await uploadBackups(bucket, folder), { names: [NAME] })
  t.strictSame(
    storage.requests.filter((request) => request.startsWith('PUT')).map((request) => request.split('/').at(-1)),
    ['sluice.dump', 'manifest.json', 'SHA256SUMS'],
  )
  t.same(storage.objects.get(`${FOLDER}/${NAME}/sluice.dump`), files['sluice.dump'])

  const elsewhere = await makeFolder(t)
  await downloadBackup(bucket, NAME, elsewhere)
  t.strictSame(await readdir(elsewhere), [NAME])
  for (const [name, content] of Object.entries(files))
    t.same(await readFile(join(elsewhere, NAME, name)), content, name)
})

t.test('a large file is uploaded in parts and stored as one object', async (t) => {
  const { storage, bucket, folder } = await start(t)
  const { 'sluice.dump': dump } = await makeBackup(folder, NAME, 40 * 2 ** 20 + 1)
  await uploadBackups(bucket, folder)
  t.ok(storage.objects.get(`${FOLDER}/${NAME}/sluice.dump`)?.equals(dump))
  t.equal(storage.requests.filter((request) => /^PUT .*partNumber=\d&/.test(request)).length, 6)
  t.equal(storage.open.size, 0)
})

t.test('a backup that the bucket has is not uploaded again, and other files are never uploaded', async (t) => {
  const { storage, bucket, folder } = await start(t)
  await makeBackup(folder, NAME, 10)
  await makeBackup(folder, '.new-sluice-20261127T013000Z', 10)
  await writeFile(join(folder, 'lock'), '')
  await uploadBackups(bucket, folder)
  await makeBackup(folder, 'sluice-20261128T013000Z', 10)
  t.match(await uploadBackups(bucket, folder), { names: ['sluice-20261128T013000Z'] })
  t.match(await uploadBackups(bucket, folder), { names: [], bytes: 0 })
  t.equal(storage.objects.size, 6)
})

t.test('a backup whose checksums are not in the bucket is uploaded again', async (t) => {
  const { storage, bucket, folder } = await start(t)
  await makeBackup(folder, NAME, 10)
  storage.fail = (request) => (/^PUT .*SHA256SUMS/.test(request) ? 403 : undefined)
  await t.rejects(uploadBackups(bucket, folder), {
    message: `object storage answered 403 InternalError to PUT ${NAME}/SHA256SUMS`,
  })
  t.same(storage.objects.size, 2)
  storage.fail = () => undefined
  t.match(await uploadBackups(bucket, folder), { names: [NAME] })
})

t.test('a temporary failure is retried, and a permanent one aborts the upload of the parts', async (t) => {
  const { storage, bucket, folder } = await start(t)
  await makeBackup(folder, NAME, 20 * 2 ** 20)
  let failures = 2
  storage.fail = (request) => (request.startsWith('PUT') && failures-- > 0 ? 503 : undefined)
  await uploadBackups(bucket, folder)

  await makeBackup(folder, 'sluice-20261128T013000Z', 20 * 2 ** 20)
  storage.fail = (request) => (request.includes('partNumber=2') ? 400 : undefined)
  await t.rejects(uploadBackups(bucket, folder), /answered 400/)
  t.equal(storage.open.size, 0, 'no parts are left in the storage')
})

t.test('a completion with an error in its 200 response is a failure', async (t) => {
  const { storage, bucket, folder } = await start(t)
  await makeBackup(folder, NAME, 20 * 2 ** 20)
  storage.fail = (request) => {
    // Replaces the first part, so that its ETag no longer matches.
    if (/^POST .*uploadId=/.test(request))
      for (const parts of storage.open.values()) parts[0] = Buffer.alloc(6 * 2 ** 20)
    return undefined
  }
  await t.rejects(uploadBackups(bucket, folder), /answered 200 InvalidPart/)
})

t.test('a wrong secret key fails with the error of the storage', async (t) => {
  const { storage, folder } = await start(t)
  await makeBackup(folder, NAME, 10)
  const wrong = openBucket({ url: storage.url, ...credentials, secretAccessKey: 'wrong' })
  await t.rejects(uploadBackups(wrong, folder), /object storage answered 403/)
  await t.rejects(listBackups(wrong), /403 SignatureDoesNotMatch/)
})

t.test('uploading a damaged backup fails, and a download that is damaged is not kept', async (t) => {
  const { storage, bucket, folder } = await start(t)
  await makeBackup(folder, NAME, 10)
  await uploadBackups(bucket, folder)
  storage.objects.set(`${FOLDER}/${NAME}/sluice.dump`, Buffer.from('other'))
  const elsewhere = await makeFolder(t)
  await t.rejects(downloadBackup(bucket, NAME, elsewhere), /sluice\.dump is damaged/)
  t.strictSame(await readdir(elsewhere), [])

  await makeBackup(folder, 'sluice-20261128T013000Z', 10)
  await writeFile(join(folder, 'sluice-20261128T013000Z/sluice.dump'), 'other')
  await t.rejects(uploadBackups(bucket, folder), /20261128T013000Z\/sluice\.dump is damaged/)
})

t.test('the list has the backups from all pages of the bucket, and nothing else', async (t) => {
  const { storage, bucket } = await start(t)
  const names = [1, 2, 3, 4, 5].map((day) => `sluice-2026110${day}T013000Z`)
  for (const name of [...names, 'other']) storage.objects.set(`${FOLDER}/${name}/SHA256SUMS`, Buffer.alloc(0))
  storage.objects.set(`elsewhere/${NAME}/SHA256SUMS`, Buffer.alloc(0))
  t.strictSame(await listBackups(bucket), names)
})

t.test('a download that breaks off leaves no file', async (t) => {
  const { storage, bucket, folder } = await start(t)
  await makeBackup(folder, NAME, 100_000)
  await uploadBackups(bucket, folder)
  storage.halfway = (response) => void response.destroy()
  const elsewhere = await makeFolder(t)
  await t.rejects(downloadBackup(bucket, NAME, elsewhere), { message: 'terminated' })
  t.strictSame(await readdir(elsewhere), [])
})

t.test('an upload has a time limit; a download has one only while no data arrives', async (t) => {
  const { storage, bucket, folder } = await start(t)
  await makeBackup(folder, NAME, 100_000)
  const limit = new AbortController()
  t.capture(AbortSignal, 'timeout', () => limit.signal)
  await uploadBackups(bucket, folder)

  storage.halfway = () => limit.abort(new Error('too late'))
  await downloadBackup(bucket, NAME, await makeFolder(t))
  storage.halfway = () => {}
  await makeBackup(folder, 'sluice-20261128T013000Z', 10)
  await t.rejects(uploadBackups(bucket, folder), { message: 'too late' })
})

t.test('a bucket that does not exist is an error, not an empty list', async (t) => {
  const { storage } = await start(t)
  const bucket = openBucket({ url: storage.url.replace('/bucket/', '/bouquet/'), ...credentials })
  await t.rejects(listBackups(bucket), /object storage answered 404/)
})

t.test('a redirect is not followed, so that nobody else gets a signed request', async (t) => {
  const { storage, bucket, folder } = await start(t)
  await makeBackup(folder, NAME, 10)
  storage.fail = () => 307
  await t.rejects(uploadBackups(bucket, folder), /object storage answered 307/)
  t.equal(storage.requests.length, 1)
})

t.test('the region is the one that is set, or the one in the URL', async (t) => {
  const fetched = t.capture(globalThis, 'fetch', async () => new Response('<ListBucketResult></ListBucketResult>'))
  const regionOf = async (url: string, region?: string) => {
    await openBucket({ url, region, ...credentials }).names()
    return new Headers(fetched.args().at(-1)?.[1]?.headers).get('authorization')?.split('/')[2]
  }
  t.equal(await regionOf('https://s3.eu-west-1.amazonaws.com/bucket/folder'), 'eu-west-1')
  t.equal(await regionOf('https://s3.us-west-002.backblazeb2.com/bucket'), 'us-west-002')
  t.equal(await regionOf('https://s3.example.com/s3.eu-west-1.bucket/folder'), 'us-east-1')
  t.equal(await regionOf('https://s3.eu-west-1.amazonaws.com/bucket', 'eu-north-1'), 'eu-north-1')
})

t.test('the command keeps the result of an upload in the database, and prints no secret', async (t) => {
  const { storage, folder } = await start(t)
  const { ownerUrl } = await createDatabase(t)
  const db = connect({ url: ownerUrl, name: 'test', connections: 1, statementTimeoutMs: 0, onError: () => {} })
  t.teardown(() => db.destroy())
  await makeBackup(folder, NAME, 10)
  const env = {
    DATABASE_URL: ownerUrl,
    BACKUP_BUCKET_URL: storage.url,
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
  }
  const upload = runCommand(t, ['backups', 'upload', folder], env)
  t.equal(await upload.exit, 0)
  t.match(upload.logs(), [{ level: 'info', msg: 'uploaded', backups: [NAME] }])
  t.match(await selectJobs(db), [{ job: 'backup_upload', succeeded: true, figures: { uploaded: 1, bytes: Number } }])

  const list = runCommand(t, ['backups', 'list'], env)
  t.equal(await list.exit, 0)
  t.equal(list.stdout(), `${NAME}\n`)

  const elsewhere = await makeFolder(t)
  t.equal(await runCommand(t, ['backups', 'download', NAME, elsewhere], env).exit, 0)
  t.strictSame(await readdir(elsewhere), [NAME])

  storage.objects.clear()
  storage.fail = () => 403
  const refused = runCommand(t, ['backups', 'upload', folder], env)
  t.equal(await refused.exit, 1)
  t.match(refused.stderr(), /object storage answered 403/)
  t.notMatch(refused.stdout() + refused.stderr(), credentials.secretAccessKey)
  t.match(await selectJobs(db), [{ job: 'backup_upload', succeeded: false, succeededAt: Number }])
})

t.test('without a bucket, the command names the missing settings', async (t) => {
  const command = runCommand(t, ['backups', 'list'], {})
  t.equal(await command.exit, 1)
  t.match(command.stderr(), /BACKUP_BUCKET_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set/)
})

async function start(t: Test) {
  const storage = await startObjectStorage(t)
  return {
    storage,
    bucket: openBucket({ url: storage.url, ...credentials }),
    folder: await makeFolder(t),
  }
}

async function makeBackup(folder: string, name: string, bytes: number) {
  const files = { 'sluice.dump': randomBytes(bytes), 'manifest.json': Buffer.from('{}\n') }
  const sums = Object.entries(files).map(
    ([file, content]) => `${createHash('sha256').update(content).digest('hex')}  ${file}\n`,
  )
  await mkdir(join(folder, name), { recursive: true })
  const all = { ...files, SHA256SUMS: Buffer.from(sums.join('')) }
  for (const [file, content] of Object.entries(all)) await writeFile(join(folder, name, file), content)
  return all
}
