import { readdir } from 'node:fs/promises'
import t from 'tap'
import { selectJobs } from '../../src/data/jobs.ts'
import { connect } from '../../src/postgres/connect.ts'
import { migrate } from '../../src/postgres/migrate.ts'
import { makeFolder, newCluster, runScript, withoutBackup } from '../helpers/backup.ts'
import { type Gate, openGate } from '../helpers/gate.ts'

// A network policy admits a pod about a second after its start. Until then, its connections are refused. A job that connected only
// once failed on every idle node.
if (withoutBackup) {
  t.plan(0, withoutBackup)
  process.exit()
}

const server = await newCluster(t)
const db = connect({ url: server.ownerUrl, name: 'test', connections: 1, statementTimeoutMs: 0, onError: () => {} })
t.teardown(() => db.destroy())
await migrate(db)
const BACKUPS = await makeFolder(t)

t.test('a backup waits until it can connect, and says nothing about it', async (t) => {
  const gate = await openGate(t, server.ownerUrl, 2)
  const { code, output, logs } = await runScript('backup', { ...behind(gate, server.backup), BACKUPS })
  t.equal(code, 0, output)
  t.equal(gate.refused(), 2)
  t.match(logs, [{ level: 'info', msg: /^made sluice-/ }])
  t.equal(output.trim().split('\n').length, 1)
  t.match(await selectJobs(db), [{ job: 'backup', succeeded: true }])
})

t.test('a restore and its dry run wait as well', async (t) => {
  const into = await server.emptyDatabase(t)
  for (const args of [['latest', '--dry-run'], ['latest']]) {
    const gate = await openGate(t, server.ownerUrl, 1)
    const { code, output, logs } = await runScript('restore', { ...behind(gate, into.owner), BACKUPS }, { args })
    t.equal(code, 0, output)
    t.equal(gate.refused(), 1)
    t.match(logs, { length: 1 })
  }
})

t.test('a drill waits before it records its result', async (t) => {
  const gate = await openGate(t, server.ownerUrl, 1)
  const { user, PATH } = server.programs
  const env = { ...behind(gate, server.backup), BACKUPS, SCRATCH: await makeFolder(t), PATH }
  const { code, output } = await runScript('drill', env, { user })
  t.equal(code, 0, output)
  t.equal(gate.refused(), 1)
  t.ok((await selectJobs(db)).some(({ job, succeeded }) => job === 'restore_drill' && succeeded))
})

t.test('a wait ends, and all that it writes is JSON, with the reason', async (t) => {
  const gate = await openGate(t, server.ownerUrl, Number.POSITIVE_INFINITY)
  const before = await readdir(BACKUPS)
  const env = { ...behind(gate, server.backup), BACKUPS, CONNECT_WAIT_SECONDS: '1' }
  const { code, output, logs } = await runScript('backup', env)
  t.equal(code, 1)
  t.equal(logs.length, output.trim().split('\n').length, output)
  t.match(logs, [
    { level: 'error', msg: /^cannot log in to PostgreSQL, tried for 1 s: psql: error: connection to server at .*/ },
    { level: 'error', msg: /no backup was made/ },
    { level: 'error', msg: /tried for 0 s/ },
    { level: 'error', msg: /could not be stored in sluice\.jobs/ },
  ])
  t.same(await readdir(BACKUPS), before)
})

const behind = (gate: Gate, env: Record<string, string>) => ({
  ...env,
  DATABASE_URL: gate.through(env.DATABASE_URL as string),
})
