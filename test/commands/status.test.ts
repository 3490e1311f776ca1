import { sql } from 'kysely'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { runCommand } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { createSafeDatabase } from '../helpers/own-server.ts'
import { endOf } from '../helpers/tail.ts'
import { until } from '../helpers/until.ts'

const server = await createApp(t, { STORAGE_BUDGET: '10GB' }, await createSafeDatabase(t))
const url = await server.app.listen({ port: 0, host: '127.0.0.1' })
const root = connect(server.database.superUrl)
t.teardown(() => root.destroy())

// As a person would: the server has run for a moment.
await server.app.ready()
await until('the first measurement', () => server.app.storage.usedBytes !== undefined)

const status = (args: string[] = [], env: Record<string, string> = {}) =>
  endOf(runCommand(t, ['status', ...args], { SLUICE_URL: url, SLUICE_KEY: server.key, ...env }))

t.test('if all is well, it says so, with the most important numbers', async (t) => {
  const { code, stdout, stderr } = await status()
  t.match({ code, stderr }, { code: 0, stderr: '' })
  const [head, blank, ...lines] = stdout.split('\n')
  t.same([head, blank], ['OK', ''])
  t.match(lines[0], /^Instances {3}1, version \d/)
  t.match(stdout, /^Storage +\d\.\d+ GB of 10\.00 GB$/m)
})

t.test('otherwise it says what to do, and the exit code is 1', async (t) => {
  // The clock of the database is ahead.
  await sql`
    INSERT INTO sluice.jobs (job, finished_at, succeeded, succeeded_at, seconds, figures, totals)
    VALUES ('backup', now() + interval '5 seconds', false, now() - interval '3 days', 1, '{}', '{}')`.execute(root)
  await until('the job to be known', async () => (await server.get('/v1/status')).json.jobs.length === 1)
  const { code, stdout } = await status()
  t.equal(code, 1)
  t.match(
    stdout,
    /^CRITICAL\n {2}critical: The last successful backup was 3 days ago\..*\n {2}warning: The last backup failed\./,
  )
  t.match(stdout, /^Backup +failed 0 seconds ago, last succeeded 3 days ago$/m)
  const json = await status(['--json'])
  t.match(JSON.parse(json.stdout), { health: 'critical', jobs: [{ job: 'backup' }] })
  t.equal(json.code, 1)
})

t.test('a key that may not see it, and a server that is not there', async (t) => {
  const { token } = await server.makeKey({ scopes: ['read'], sourcePrefixes: ['shop'] })
  t.match(await status([], { SLUICE_KEY: token }), { code: 1, stdout: '', stderr: /use a key without source prefixes/ })
  t.match(await status([], { SLUICE_URL: 'http://127.0.0.1:1' }), { code: 1, stdout: '', stderr: /127\.0\.0\.1:1/ })
})
