import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { appendFile, cp, mkdir, readdir, readFile, rename, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { type JobState, selectJobs } from '../../src/data/jobs.ts'
import { connect } from '../../src/postgres/connect.ts'
import { migrate } from '../../src/postgres/migrate.ts'
import { makeFolder, newCluster, runScript, script, withoutBackup } from '../helpers/backup.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { until } from '../helpers/until.ts'

// Runs backup.sh, restore.sh and drill.sh as their pods do, with the real pg_dump and pg_restore, on a separate server. To make a
// step fail, a test puts a program of the same name first on the PATH.
if (withoutBackup) {
  t.plan(0, withoutBackup)
  process.exit()
}

const open = (url: string) => connect({ url, name: 'test', connections: 1, statementTimeoutMs: 0, onError: () => {} })

const server = await newCluster(t)
const owner = open(server.ownerUrl)
t.teardown(() => owner.destroy())
await migrate(owner)
await store(1, 50)

t.test('a backup has a dump, a manifest and their checksums, and its result is recorded', async (t) => {
  const BACKUPS = await makeFolder(t)
  const { code, output, logs } = await backup(BACKUPS)
  t.equal(code, 0)
  const [name] = await backupsIn(BACKUPS)
  const folder = join(BACKUPS, name as string)
  t.strictSame((await readdir(folder)).sort(), ['SHA256SUMS', 'manifest.json', 'sluice.dump'])
  execFileSync('sha256sum', ['--check', '--strict', 'SHA256SUMS'], { cwd: folder })
  const manifest = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8'))
  t.match(manifest, { records: 50, tables: { records: { rows: 50, content: /^[01]{256}$/ }, keys: { rows: 0 } } })

  t.equal(logs.length, output.trim().split('\n').length, 'its log is JSON')
  t.match(logs.at(-1), { level: 'info', msg: `made ${name}`, records: 50, kept: 1 })
  t.match(await job('backup'), { succeeded: true, figures: { bytes: logs.at(-1)?.bytes, kept: 1 } })
})

t.test('the manifest describes the dump, even if records are stored between the two', async (t) => {
  const BACKUPS = await makeFolder(t)
  const PATH = await standIn(t, 'pg_dump', `echo begun >${BACKUPS}/begun; read -r go <${BACKUPS}/go; exec REAL "$@"`)
  execFileSync('mkfifo', [`${BACKUPS}/go`])
  const running = backup(BACKUPS, { PATH })
  await until('the dump to begin', () => readFile(join(BACKUPS, 'begun')).catch(() => undefined))
  await store(51, 60)
  await writeFile(`${BACKUPS}/go`, 'go\n')
  t.match((await running).logs.at(-1), { records: 50 })
  t.match(await restoreInto(t, BACKUPS, 'latest'), { code: 0, records: 50 })
})

t.test('a dump that fails or is truncated leaves no backup, and the failure is recorded', async (t) => {
  const BACKUPS = await makeFolder(t)
  await backup(BACKUPS)
  await age(BACKUPS, 1)
  const before = await readdir(BACKUPS)
  for (const [what, program] of [
    ['fails', 'echo half >"$new/sluice.dump"; echo no space left >&2; exit 1'],
    ['is truncated', 'REAL "$@" && truncate -s -100 "$new/sluice.dump"'],
  ] as const) {
    const { code, logs } = await backup(BACKUPS, { PATH: await standIn(t, 'pg_dump', program) })
    t.equal(code, 1, what)
    t.match(logs.at(-1), { level: 'error', msg: /no backup was made/ })
    t.strictSame(await readdir(BACKUPS), before, what)
    t.match(await job('backup'), { succeeded: false, succeededAt: Number, figures: {} }, what)
  }
})

// It said "no backup was made" about a backup that was complete.
t.test('a backup stays when an old one cannot be deleted, and the log says so', async (t) => {
  const BACKUPS = await makeFolder(t)
  await backup(BACKUPS)
  const old = await age(BACKUPS, 1)
  const PATH = await standIn(t, 'mv', `case "$*" in *.old-*) echo denied >&2; exit 1;; esac; exec REAL "$@"`)
  const { code, logs } = await backup(BACKUPS, { PATH, KEEP: '1' })
  t.equal(code, 1)
  t.match(logs, [
    { level: 'error', msg: 'denied' },
    { level: 'error', msg: /^sluice-\w+ was made, but the run did not finish/ },
  ])
  t.match(await backupsIn(BACKUPS), { length: 2 })
  t.ok((await backupsIn(BACKUPS)).includes(old))
  t.match(await job('backup'), { succeeded: false })
})

t.test('no backup is made if it would nearly fill the disk, because the database may be on it', async (t) => {
  const BACKUPS = await makeFolder(t)
  const PATH = await standIn(t, 'df', 'echo Avail; echo 20000')
  t.match(await backup(BACKUPS, { PATH }), { code: 0 }, 'the size of the first backup is not known in advance')
  const name = await age(BACKUPS, 1)
  t.ok((await readFile(join(BACKUPS, name, 'sluice.dump'))).length > 20_000 / 3)
  t.match(await backup(BACKUPS, { PATH }), { code: 1, logs: [{ msg: /^only 20000 bytes are free/ }, {}] })
  t.strictSame(await backupsIn(BACKUPS), [name])
})

t.test('an unreachable database is an error with its reason', async (t) => {
  const BACKUPS = await makeFolder(t)
  const DATABASE_URL = 'postgres://sluice_backup@127.0.0.1:1/sluice'
  const { code, logs } = await backup(BACKUPS, { DATABASE_URL, CONNECT_WAIT_SECONDS: '0' })
  t.equal(code, 1)
  t.match(logs[0], { level: 'error', msg: /Connection refused/ })
  t.match(logs.at(-1), { msg: /could not be stored/ })
})

t.test('a killed backup leaves nothing that looks like a backup, and the next run deletes what it left', async (t) => {
  const BACKUPS = await makeFolder(t)
  const child = await hanging(t, BACKUPS)
  t.match(await readdir(BACKUPS), [/^\.new-sluice-/], 'there is an incomplete backup')
  await kill(child, BACKUPS)
  t.match(await runScript('restore', { BACKUPS }), { code: 0, output: /^BACKUP[^\n]*\n$/ })

  t.match(await backup(BACKUPS), { code: 0 })
  t.match(
    (await readdir(BACKUPS)).filter((name) => name !== 'lock'),
    [/^sluice-/],
  )
})

t.test('a second backup at the same time is refused, and does not count as a failure of the job', async (t) => {
  const BACKUPS = await makeFolder(t)
  const child = await hanging(t, BACKUPS)
  const before = await job('backup')
  t.match(await backup(BACKUPS), { code: 1, logs: [{ level: 'error', msg: /another backup is being made/ }] })
  t.strictSame(await job('backup'), before)
  t.match(await readdir(BACKUPS), [/^\.new-sluice-/], 'the first backup is kept')
  await kill(child, BACKUPS)
})

t.test('old backups are deleted by number and by age, but only after a new one is complete', async (t) => {
  const BACKUPS = await makeFolder(t)
  await backup(BACKUPS)
  const recent = await age(BACKUPS, 0.5)
  const [one, two, eight, nine] = [1, 2, 8, 9].map(nameOf) as [string, string, string, string]
  for (const name of [one, two, eight, nine]) await cp(join(BACKUPS, recent), join(BACKUPS, name), { recursive: true })
  await mkdir(join(BACKUPS, 'lost+found'))

  const limits = { KEEP: '5', KEEP_DAYS: '7' }
  await backup(BACKUPS, { ...limits, PATH: await standIn(t, 'pg_dump', 'exit 1') })
  t.strictSame(await backupsIn(BACKUPS), [recent, one, two, eight, nine])

  t.match(await backup(BACKUPS, limits), {
    code: 0,
    logs: [{ msg: `deleted ${eight}` }, { msg: `deleted ${nine}` }, { kept: 4 }],
  })
  const newer = await age(BACKUPS, 0.25)
  t.strictSame(await backupsIn(BACKUPS), [newer, recent, one, two], 'none is older than a week')

  t.match(await backup(BACKUPS, { KEEP: '3', KEEP_DAYS: '7' }), { code: 0 })
  t.strictSame((await backupsIn(BACKUPS)).slice(1), [newer, recent], 'three are kept')
  t.ok((await readdir(BACKUPS)).includes('lost+found'), 'other folders are kept')

  const last = await age(BACKUPS, 0.125)
  t.match(await backup(BACKUPS, { KEEP: '0', KEEP_DAYS: '0' }), { code: 0 })
  t.equal((await backupsIn(BACKUPS)).length, 1, 'the new backup is kept, whatever the limits are')
  t.not((await backupsIn(BACKUPS))[0], last)
})

t.test('restore.sh', async (t) => {
  const BACKUPS = await makeFolder(t)
  await backup(BACKUPS)
  const [name] = (await backupsIn(BACKUPS)) as [string]
  const damaged = async (t: Test, damage: (folder: string) => Promise<unknown>, sums = false) => {
    const copies = await makeFolder(t)
    const folder = join(copies, name)
    await cp(join(BACKUPS, name), folder, { recursive: true })
    await damage(folder)
    if (sums) execFileSync('sh', ['-c', 'sha256sum sluice.dump manifest.json >SHA256SUMS'], { cwd: folder })
    return copies
  }

  t.test('lists the backups', async (t) => {
    const { output } = await runScript('restore', { BACKUPS })
    t.match(output, new RegExp(`^BACKUP +RECORDS +BYTES +LAST RECEIVED\n${name} +60 +\\d+ +20[^\n]+\n$`))
  })

  t.test('a dry run reports the records, and changes nothing', async (t) => {
    t.match(await restoreInto(t, BACKUPS, name, '--dry-run'), { code: 0, records: undefined, logs: [{ records: 60 }] })
  })

  t.test('a database with records is refused and stays as it is, in a dry run as well', async (t) => {
    for (const args of [[name, '--dry-run'], [name]]) {
      const { code, logs } = await runScript('restore', { ...server.owner, BACKUPS }, { args })
      t.equal(code, 1)
      t.match(logs, [
        { level: 'error', msg: /the database sluice is in use: 60 rows in sluice\.records\. Nothing was/ },
      ])
    }
    t.equal(await count(owner), 60)
  })

  t.test('a record that is stored while the restore begins is not lost', async (t) => {
    const { ownerUrl, owner: env } = await server.emptyDatabase(t)
    // Sluice's own connections may be idle in a transaction for five seconds only. A busy machine takes longer to start the restore.
    const [writer, other] = [connectAs(ownerUrl), open(ownerUrl)]
    t.teardown(() => Promise.all([writer.destroy(), other.destroy()]))
    await migrate(other)
    const { running } = await writer.transaction().execute(async (trx) => {
      await sql`INSERT INTO sluice.records (epoch, n, source, id, type) VALUES (1, 1, 's', 'late', 't')`.execute(trx)
      const running = runScript('restore', { ...env, BACKUPS }, { args: [name] })
      await until('the restore to wait for this transaction', async () => {
        const { rows } = await sql`
          SELECT FROM pg_locks JOIN pg_database AS d ON d.oid = database
          WHERE NOT granted AND mode = 'AccessExclusiveLock' AND datname = current_database()`.execute(other)
        return rows.length > 0
      })
      return { running }
    })
    t.match(await running, { code: 1, logs: [{ msg: /is in use: 1 rows/ }] })
    t.equal(await count(other), 1)
  })

  t.test('what an API has left in a database without records is no obstacle', async (t) => {
    const { ownerUrl, owner: env } = await server.emptyDatabase(t)
    const other = open(ownerUrl)
    t.teardown(() => other.destroy())
    await migrate(other)
    await sql`INSERT INTO sluice.storage_history (hour, used_bytes) VALUES (date_trunc('hour', now()), 1)`.execute(
      other,
    )
    await sql`INSERT INTO sluice.series (source, type) VALUES ('', 'rejected')`.execute(other)
    t.match(await runScript('restore', { ...env, BACKUPS }, { args: [name] }), { code: 0 })
    t.equal(await count(other), 60)
  })

  t.test('a damaged backup is refused', async (t) => {
    const copies = await damaged(t, (folder) => appendFile(join(folder, 'sluice.dump'), '.'))
    t.match(await restoreInto(t, copies, name), { code: 1, records: undefined, logs: [{ msg: /is damaged/ }] })
    t.match(await restoreInto(t, copies, name, '--dry-run'), { code: 1 })
  })

  t.test('a restore that does not match its manifest is rolled back', async (t) => {
    const copies = await damaged(
      t,
      async (folder) => {
        const file = join(folder, 'manifest.json')
        const text = await readFile(file, 'utf8')
        await writeFile(
          file,
          text.replace(/("content": ")([01])/, (_, start, bit) => start + (1 - Number(bit))),
        )
      },
      true,
    )
    t.match(await restoreInto(t, copies, name), {
      code: 1,
      records: undefined,
      logs: [{ level: 'error', msg: /the restored content does not match its manifest/ }],
    })
  })

  t.test('a restore that fails in the middle is rolled back', async (t) => {
    const copies = await damaged(t, (folder) => truncate(join(folder, 'sluice.dump'), 9_000), true)
    t.match(await restoreInto(t, copies, name), { code: 1, records: undefined, logs: [{ level: 'error' }] })
  })

  t.test('a backup that does not exist is an error', async (t) => {
    t.match(await restoreInto(t, BACKUPS, 'sluice-x'), { code: 1, logs: [{ msg: /there is no backup sluice-x in/ }] })
    t.match(await restoreInto(t, await makeFolder(t), 'latest'), {
      code: 1,
      logs: [{ msg: /there is no backup at all/ }],
    })
  })
})

t.test('drill.sh', async (t) => {
  const BACKUPS = await makeFolder(t)
  const begin = Date.now()
  await backup(BACKUPS)

  t.test('restores the newest backup into a separate server, and records its age and content', async (t) => {
    const { code, logs, output, scratch } = await drill(t, BACKUPS)
    t.equal(code, 0)
    t.equal(logs.length, output.trim().split('\n').length, 'its log is JSON')
    t.match(logs, [{ level: 'info', msg: /^restored sluice-/, records: 60 }])
    const { succeeded, figures } = await job('restore_drill')
    t.ok(succeeded)
    t.equal(figures.records, 60)
    // Both times are whole seconds.
    const most = (Date.now() - begin) / 1000 + 1
    t.ok(Number(figures.backup_age_seconds) >= 0 && Number(figures.backup_age_seconds) <= most)
    t.match(await readFile(join(scratch, 'log'), 'utf8'), /listening on Unix socket(?!.*listening on IP)/s)
    await t.rejects(readFile(join(scratch, 'data/postmaster.pid')), { code: 'ENOENT' }, 'its server is stopped')
  })

  t.test('fails, and records it, if the newest backup cannot be restored', async (t) => {
    const [name] = (await backupsIn(BACKUPS)) as [string]
    await appendFile(join(BACKUPS, name, 'sluice.dump'), '.')
    t.match(await drill(t, BACKUPS), {
      code: 1,
      logs: [{ msg: /is damaged/ }, { msg: /restore drill of sluice-\w+ failed/ }],
    })
    t.match(await job('restore_drill'), { succeeded: false, succeededAt: Number })
  })

  t.test('fails if there is no backup', async (t) => {
    t.match(await drill(t, await makeFolder(t)), { code: 1, logs: [{ msg: /there is no backup/ }, {}] })
  })
})

/** The name of a backup that began `days` ago. */
const nameOf = (days: number) =>
  `sluice-${new Date(Date.now() - days * 86_400_000).toISOString().replaceAll(/[-:]|\.\d+/g, '')}`

/** Renames the newest backup as if it were `days` old: two backups of the same second would have the same name. */
async function age(BACKUPS: string, days: number): Promise<string> {
  const name = nameOf(days)
  await rename(join(BACKUPS, (await backupsIn(BACKUPS))[0] as string), join(BACKUPS, name))
  return name
}

/** Stores records with the numbers `from` to `to`, as the API does. */
async function store(from: number, to: number): Promise<void> {
  await sql`
    INSERT INTO sluice.records (epoch, n, source, id, type, data, extensions)
    SELECT sluice.current_epoch(), i, 's', i::text, 't', ('{"text": "' || repeat(md5(i::text), 20) || '"}')::json, '{"a": 1}'
    FROM generate_series(${sql.lit(from)}, ${sql.lit(to)}) AS i`.execute(owner)
}

const backup = (BACKUPS: string, env: Record<string, string> = {}) =>
  runScript('backup', { ...server.backup, BACKUPS, ...env })

/** Kills a process group, and waits until the last process of it has released the lock of the folder. */
async function kill(child: ChildProcess, BACKUPS: string): Promise<void> {
  process.kill(-(child.pid as number), 'SIGKILL')
  await promisify(execFile)('flock', [join(BACKUPS, 'lock'), 'true'])
}

/** Runs backup.sh in its own process group until it waits for a pg_dump that never ends. */
async function hanging(t: Test, BACKUPS: string) {
  const PATH = await standIn(t, 'pg_dump', `echo half >"$new/sluice.dump"; sleep 600`)
  const child = spawn('bash', [script('backup')], {
    env: { ...server.backup, BACKUPS, PATH, KEEP: '3', KEEP_DAYS: '30' },
    detached: true,
    stdio: 'ignore',
  })
  await until('half a dump', async () => {
    const [name] = (await readdir(BACKUPS)).filter((one) => one.startsWith('.new-'))
    return name !== undefined && (await readdir(join(BACKUPS, name))).includes('sluice.dump')
  })
  return child
}

async function drill(t: Test, BACKUPS: string) {
  const scratch = await makeFolder(t)
  const { user, PATH } = server.programs
  return { scratch, ...(await runScript('drill', { ...server.backup, BACKUPS, SCRATCH: scratch, PATH }, { user })) }
}

/** Restores into a new database. `records` is their number afterwards; undefined if there is no table. */
async function restoreInto(t: Test, BACKUPS: string, ...args: string[]) {
  const into = await server.emptyDatabase(t)
  const ran = await runScript('restore', { ...into.owner, BACKUPS }, { args })
  const db = open(into.ownerUrl)
  const records = await count(db).finally(() => db.destroy())
  return { ...ran, records }
}

async function count(db: typeof owner): Promise<number | undefined> {
  const { rows } = await sql<{ n: number }>`SELECT count(*)::integer AS n FROM sluice.records`
    .execute(db)
    .catch(() => ({ rows: [] }))
  return rows[0]?.n
}

async function backupsIn(folder: string): Promise<string[]> {
  return (await readdir(folder))
    .filter((name) => name.startsWith('sluice-'))
    .sort()
    .reverse()
}

async function job(name: string): Promise<JobState> {
  const found = (await selectJobs(owner)).find(({ job }) => job === name)
  if (found === undefined) throw new Error(`the job ${name} was never recorded`)
  return found
}

/** Returns a PATH on which `program` is this shell text. In it, REAL stands for the real program. */
async function standIn(t: Test, program: string, text: string): Promise<string> {
  const real = execFileSync('sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).trim()
  const bin = t.testdir({})
  await writeFile(join(bin, program), `#!/bin/sh\n${text.replaceAll('REAL', real)}\n`, { mode: 0o755 })
  return `${bin}:${process.env.PATH}`
}
