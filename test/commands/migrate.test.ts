import t from 'tap'
import { runCommand, runServer } from '../helpers/command.ts'
import { createDatabase, createEmptyDatabase } from '../helpers/postgres.ts'

t.test('migrate logs what it ran as JSON, and a second run logs that there is nothing to migrate', async (t) => {
  const { ownerUrl } = await createEmptyDatabase(t)
  const first = runCommand(t, ['migrate'], { DATABASE_URL: ownerUrl })
  t.equal(await first.exit, 0)
  t.match(first.logs(), [{ level: 'info', msg: 'migrated', migrations: [/^0001_/] }])
  const second = runCommand(t, ['migrate'], { DATABASE_URL: ownerUrl })
  t.equal(await second.exit, 0)
  t.match(second.logs(), [{ level: 'info', msg: 'nothing to migrate', migrations: [] }])
})

t.test('migrate as a role without the privileges fails with one sentence and exit code 1', async (t) => {
  const { apiUrl } = await createEmptyDatabase(t)
  const { exit, stdout, stderr } = runCommand(t, ['migrate'], { DATABASE_URL: apiUrl })
  t.equal(await exit, 1)
  t.match(stderr(), /^sluice: .*permission denied.*\.\n$/)
  t.equal(stdout(), '')
})

t.test('serve without the schema is alive but not ready, and becomes ready after migrate', async (t) => {
  const { apiUrl, ownerUrl } = await createEmptyDatabase(t)
  const { url, log, exit, child } = await runServer(t, { DATABASE_URL: apiUrl })
  t.equal((await fetch(`${url}/healthz`)).status, 200)
  await log(({ level, msg }) => level === 'warn' && /lacks the migrations/.test(String(msg)))
  const notReady = await fetch(`${url}/readyz`)
  t.equal(notReady.status, 503)
  t.match(
    await notReady.text(),
    /^starting: the database lacks the migrations 0001_\w+, 0002_\w+.*; run "sluice migrate"\n$/,
  )

  const refused = await fetch(`${url}/v1/records`, { method: 'POST', headers: { authorization: 'Bearer any' } })
  t.equal(refused.status, 503)
  t.match(await refused.json(), { code: 'database_unavailable', retryable: true, outcome: 'not_written' })

  t.equal(await runCommand(t, ['migrate'], { DATABASE_URL: ownerUrl }).exit, 0)
  await log(({ msg }) => msg === 'ready')
  const ready = await fetch(`${url}/readyz`)
  t.same([ready.status, await ready.text()], [200, 'ready\n'])
  child.kill('SIGINT')
  t.equal(await exit, 0)
})

t.test('serve with an unreachable database is alive but not ready', async (t) => {
  const { url, log } = await runServer(t, {
    DATABASE_URL: 'postgres://sluice:hush@127.0.0.1:1/none',
    LOG_LEVEL: 'debug',
  })
  await log(({ msg }) => /not been reached/.test(String(msg)))
  t.equal((await fetch(`${url}/healthz`)).status, 200)
  const response = await fetch(`${url}/readyz`)
  t.same([response.status, await response.text()], [503, 'starting: the database has not been reached yet\n'])
})

t.test('serve on a migrated database is ready', async (t) => {
  const { apiUrl } = await createDatabase(t)
  const { url, log } = await runServer(t, { DATABASE_URL: apiUrl })
  await log(({ msg }) => msg === 'ready')
  t.equal((await fetch(`${url}/readyz`)).status, 200)
})
