import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { parse, stringify } from 'yaml'
import { migrate, pendingMigrations } from '../../src/postgres/migrate.ts'
import { makeFolder, newCluster, runScript, withoutBackup } from '../helpers/backup.ts'
import { connect } from '../helpers/connect.ts'
import { find, render } from '../helpers/kustomize.ts'
import { missing } from '../helpers/skipping.ts'

const program = fileURLToPath(new URL('../../scripts/restore.sh', import.meta.url))

t.test('restore.sh with DATABASE_URL', { skip: withoutBackup }, async (t) => {
  const server = await newCluster(t)
  const owner = connect(server.ownerUrl)
  t.teardown(() => owner.destroy())
  await migrate(owner)
  await sql`
    INSERT INTO sluice.records (epoch, n, source, id, type) SELECT sluice.current_epoch(), i, 's', i::text, 't'
    FROM generate_series(1, 7) AS i`.execute(owner)
  const BACKUPS = await makeFolder(t)
  await runScript('backup', { ...server.backup, BACKUPS })
  const name = (await readdir(BACKUPS)).find((one) => one.startsWith('sluice-')) as string

  t.test('without a name it lists the backups, and needs no database', async (t) => {
    t.match(restore({ BACKUPS }), { status: 0, output: new RegExp(`${name} +7 `) })
  })

  t.test('a dry run changes nothing; a real run restores, migrates and grants, but only once', async (t) => {
    const { ownerUrl } = await server.emptyDatabase(t)
    const db = connect(ownerUrl)
    t.teardown(() => db.destroy())
    t.match(restore({ BACKUPS, DATABASE_URL: ownerUrl }, 'latest', '--dry-run'), {
      status: 0,
      output: /nothing was changed/,
    })
    t.not((await pendingMigrations(db)).length, 0)

    t.match(restore({ BACKUPS, DATABASE_URL: ownerUrl }, name), { status: 0, output: /restored sluice-/ })
    t.same(await pendingMigrations(db), [])
    t.same((await sql`SELECT count(*)::integer AS n FROM sluice.records`.execute(db)).rows, [{ n: 7 }])
    const canInsert = sql`SELECT has_any_column_privilege('sluice_api', 'sluice.records', 'INSERT') AS can_insert`
    t.same((await canInsert.execute(db)).rows, [{ can_insert: true }])

    t.match(restore({ BACKUPS, DATABASE_URL: ownerUrl }, name), { status: 1, output: /is in use: 7 rows/ })
  })

  t.test('the password is not in an argument, where ps would show it', async (t) => {
    const { ownerUrl } = await server.emptyDatabase(t)
    const url = new URL(ownerUrl)
    const bin = t.testdir({})
    const log = join(bin, 'arguments')
    const real = execFileSync('sh', ['-c', 'command -v psql'], { encoding: 'utf8' }).trim()
    writeFileSync(join(bin, 'psql'), `#!/bin/sh\necho "$*" >>${log}\nexec ${real} "$@"\n`, { mode: 0o755 })
    const env = {
      BACKUPS,
      DATABASE_URL: ownerUrl.replace(
        url.password,
        `%${url.password.charCodeAt(0).toString(16)}${url.password.slice(1)}`,
      ),
    }
    t.match(
      restore({ ...env, PATH: `${bin}:${process.env.PATH}` }, 'latest'),
      { status: 0 },
      'with a percent-encoded password',
    )
    t.match(readFileSync(log, 'utf8'), /postgres:\/\/sluice_owner@127/)
    t.notMatch(readFileSync(log, 'utf8'), url.password.slice(1))
  })

  t.test('a restore without DATABASE_URL is refused', async (t) => {
    t.match(restore({ BACKUPS }, 'latest'), { status: 1, output: /DATABASE_URL is not set/ })
  })
})

// With an older Node.js, the restore was committed, and only then `sluice migrate` failed.
t.test('restore.sh with a Node.js on the PATH that is too old', async (t) => {
  const bin = t.testdir({ node: `#!/bin/sh\necho this Node.js is too old >&2\nexit 1\n`, psql: '', pg_restore: '' })
  for (const name of ['node', 'psql', 'pg_restore']) chmodSync(join(bin, name), 0o755)
  const env = { BACKUPS: bin, DATABASE_URL: 'postgres://nobody@127.0.0.1/none', PATH: `${bin}:${process.env.PATH}` }

  t.test('without npm ci, it restores nothing and says what to do', async (t) => {
    const folder = t.testdir({
      scripts: { 'restore.sh': readFileSync(program) },
      'k8s/components/backup': { 'restore.sh': 'echo restored' },
    })
    const { status, stdout, stderr } = spawnSync('bash', [join(folder, 'scripts/restore.sh'), 'latest'], {
      encoding: 'utf8',
      env,
    })
    t.equal(status, 1)
    t.equal(stdout, '')
    t.match(stderr, /this Node\.js is too old\n.*Nothing was changed\. Run npm ci/)
  })

  t.test('after npm ci, it uses the Node.js of the repository', async (t) => {
    // There is no backup, which only the step after the check notices.
    t.match(restore(env, 'sluice-1'), { status: 1, output: /there is no backup sluice-1/ })
  })
})

t.test('restore.sh in the cluster', { skip: missing('kubectl') }, async (t) => {
  t.test('it restores nothing while the API runs, and says how to stop it', async (t) => {
    const { status, output, made } = inCluster(t, { PODS: 'pod/sluice-api-1' }, 'latest')
    t.equal(status, 1)
    t.match(
      output,
      /scale deployment\/sluice-api --replicas=0\n.* wait --for=delete pod -l app\.kubernetes\.io\/component=api/,
    )
    t.equal(made, undefined)
  })

  t.test('if kubectl does not know whether the API runs, it restores nothing', async (t) => {
    const { status, output, made } = inCluster(t, { FAIL: 'get pods' }, 'latest')
    t.equal(status, 1)
    t.match(output, /connection refused\n.*Nothing was changed/)
    t.equal(made, undefined)
  })

  t.test('while the pod cannot start, it shows why, and it gives up when the cluster does not answer', async (t) => {
    const waiting = inCluster(t, { PENDING: '30' }, 'latest')
    t.equal(waiting.status, 0, waiting.output)
    t.match(waiting.output, /still waiting\. Its pod: sluice-restore-1-x 0\/1 Pending/)
    const unknown = inCluster(t, { FAIL: 'get job ' }, 'latest')
    t.equal(unknown.status, 1)
    t.match(unknown.output, /the state of the Job sluice-restore-\S+ is not known/)
  })

  t.test('it creates a Job that restores, migrates, begins an epoch and then ensures the first key', async (t) => {
    const { status, output, made } = inCluster(t, {}, 'sluice-20261126T013000Z')
    t.equal(status, 0, output)
    const { initContainers, containers } = made.spec.template.spec
    t.strictSame(names(initContainers), ['restore', 'migrate', 'epoch'])
    t.strictSame(names(containers), ['first-key'])
    t.strictSame(initContainers[0].args, ['sluice-20261126T013000Z'])
    t.match(output, /what the Job wrote/)
  })

  for (const [what, args, expected] of [
    ['a list', [], []],
    ['a dry run', ['latest', '--dry-run'], ['latest', '--dry-run']],
  ] as const) {
    t.test(`${what} runs only the restore step, even while the API runs`, async (t) => {
      const { status, output, made } = inCluster(t, { PODS: 'pod/sluice-api-1' }, ...args)
      t.equal(status, 0, output)
      const { initContainers, containers } = made.spec.template.spec
      t.equal(initContainers, undefined)
      t.strictSame(names(containers), ['restore'])
      t.strictSame(containers[0].args, expected)
    })
  }

  t.test('a Job that fails is reported with its log', async (t) => {
    const { status, output } = inCluster(t, { STATUS: 'FailureTarget Failed' }, 'latest')
    t.equal(status, 1)
    t.match(output, /what the Job wrote.*the Job failed/s)
  })
})

t.test('an unknown option prints the usage', async (t) => {
  t.match(restore({}, '--force'), { status: 2, output: /scripts\/restore\.sh BACKUP \[--dry-run\]/ })
})

const names = (containers: { name: string }[]) => containers.map(({ name }) => name)

function restore(env: Record<string, string>, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(program, args, {
    encoding: 'utf8',
    env: { PATH: process.env.PATH ?? '', ...env },
  })
  return { status, output: stdout + stderr }
}

/** Runs restore.sh with a fake kubectl. It passes local patches to the real one, and prints fixed output for the rest. */
function inCluster(t: Test, env: Record<string, string>, ...args: string[]) {
  const home = t.testdir({})
  const { spec } = find(render('k3s'), 'CronJob', 'sluice-restore').spec.jobTemplate
  const metadata = { name: 'sluice-restore-1', namespace: 'sluice' }
  writeFileSync(join(home, 'job.yaml'), stringify({ apiVersion: 'batch/v1', kind: 'Job', metadata, spec }))
  const real = execFileSync('sh', ['-c', 'command -v kubectl'], { encoding: 'utf8' }).trim()
  const text = `case "$*" in
    *'create job'*--from=cronjob/sluice-restore*) cat ${home}/job.yaml ;;
    'patch --local '*) exec ${real} "$@" ;;
    *"\${FAIL:-nothing fails}"*) echo 'dial tcp 10.0.0.1:6443: connection refused' >&2; exit 1 ;;
    'create -f -') cat >${home}/made.yaml ;;
    *'get pods'*job-name=*) echo 'sluice-restore-1-x 0/1 Pending' ;;
    *'get pods'*) echo "\${PODS:-}" ;;
    *'get job '*)
      echo >>${home}/gets
      [ "$(wc -l <${home}/gets)" -le "\${PENDING:-0}" ] || echo "\${STATUS:-SuccessCriteriaMet Complete}" ;;
    *logs*) echo what the Job wrote ;;
    *) echo "unexpected: $*" >&2; exit 1 ;;
  esac`
  writeFileSync(join(home, 'sleep'), '#!/bin/sh\n', { mode: 0o755 })
  writeFileSync(join(home, 'kubectl'), `#!/bin/sh\n${text}\n`, { mode: 0o755 })
  const ran = restore({ PATH: `${home}:${process.env.PATH}`, ...env }, ...args)
  const made = spawnSync('cat', [join(home, 'made.yaml')], { encoding: 'utf8' }).stdout
  return { ...ran, made: made === '' ? undefined : parse(made) }
}
