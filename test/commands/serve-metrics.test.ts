import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import t, { type Test } from 'tap'
import { type Command, runCommand, runServer } from '../helpers/command.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { missing } from '../helpers/skipping.ts'

const NOWHERE = 'postgres://127.0.0.1:1/none'

t.test('a metrics port that is in use is reported in one sentence, which suggests two other ports', async (t) => {
  const blocker = createServer().listen(0, '127.0.0.1')
  await once(blocker, 'listening')
  t.teardown(() => blocker.close())
  const { port } = blocker.address() as AddressInfo
  const env = { DATABASE_URL: NOWHERE, PORT: '3000', METRICS_PORT: String(port) }
  const { exit, logs, stdout, stderr } = runCommand(t, ['serve'], env)
  t.equal(await exit, 1)
  const sentence = `Port ${port} on 127.0.0.1 is in use, perhaps by another sluice. Stop that one, or choose other ports: PORT=3001 METRICS_PORT=${port + 1} npm start`
  t.match(logs(), [{ level: 'fatal', msg: sentence }])
  t.notMatch(stdout() + stderr(), /\n\s+at |node:net/)
})

t.test('metrics are served before the database is reached, and while the server drains', async (t) => {
  const server = await runServer(t, { DATABASE_URL: NOWHERE, DRAIN_SECONDS: '600' })
  const metrics = await metricsOf(server)
  t.match(await (await fetch(metrics)).text(), /^sluice_ready 0$/m)
  t.equal((await fetch(`${server.url}/metrics`)).status, 404, 'not on the port of the API')
  server.child.kill('SIGTERM')
  await server.log(({ msg }) => msg === 'draining')
  t.equal((await fetch(metrics)).status, 200)
})

t.test('promtool accepts the metrics', { skip: missing('promtool') }, async (t) => {
  const { metrics } = await startReady(t)
  const input = await (await fetch(metrics)).text()
  t.equal(execFileSync('promtool', ['check', 'metrics'], { input, encoding: 'utf8', stdio: 'pipe' }), '')
  t.throws(() =>
    execFileSync('promtool', ['check', 'metrics'], { input: `${input}\n# TYPE a_total gauge\na_total 1\n` }),
  )
})

async function startReady(t: Test) {
  const server = await runServer(t, { DATABASE_URL: (await createDatabase(t)).apiUrl })
  await server.log(({ msg }) => msg === 'ready')
  return { server, metrics: await metricsOf(server) }
}

async function metricsOf({ log }: Command): Promise<string> {
  const { msg } = await log(({ msg }) => String(msg).startsWith('Metrics at '))
  return String(msg).replace('Metrics at ', '')
}
