import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import t, { type Test } from 'tap'
import { runServer } from '../helpers/command.ts'
import { adapt, commands, put, repository } from '../helpers/operator-manual.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { freePort, type RunningProxy, startProxy } from '../helpers/proxies.ts'
import { startStub } from '../helpers/proxy.ts'
import { missing } from '../helpers/skipping.ts'
import { until } from '../helpers/until.ts'

const ORIGIN = 'https://app.example.com'
const key = 'a-key-that-somebody-chose'
const { ownerUrl } = await createDatabase(t)
const env = {
  DATABASE_URL: ownerUrl,
  SLUICE_BOOTSTRAP_KEY: key,
  PATH_PREFIX: '/ingest',
  CORS_ORIGINS: ORIGIN,
  DRAIN_SECONDS: '1',
}
const ports: [number, number] = [await freePort(), await freePort()]
const start = (port: number) => runServer(t, { ...env, PORT: String(port) }, { args: ['--migrate'] })
const servers = [await start(ports[0]), await start(ports[1])]

const proxies: Partial<Record<'nginx' | 'caddy', RunningProxy>> = {}
for (const program of ['nginx', 'caddy'] as const) {
  const skip = missing(program) || missing('openssl')
  t.test(`through ${program}, as the manual sets it up`, { skip }, async (t2) => {
    const proxy = await startProxy(t, program, ports)
    proxies[program] = proxy
    await checkProxy(t2, program, proxy)
  })
}

const skip = missing('nginx') || missing('caddy') || missing('openssl') || missing('curl')
t.test(
  'the commands of an upgrade replace both instances while clients send through the proxies',
  { skip },
  async (t) => {
    // Stands for systemd: it restarts an instance.
    const systemd = await startStub(t, async (request, response) => {
      const at = ports.indexOf(Number(request.url?.slice(1)))
      servers[at]?.child.kill('SIGTERM')
      t.equal(await servers[at]?.exit, 0)
      servers[at] = await start(ports[at] as number)
      response.end()
    })
    const folder = await mkdtemp(join(tmpdir(), 'upgrade-'))
    t.teardown(() => rm(folder, { recursive: true }))
    await put(join(folder, 'owner.env'), `DATABASE_URL='${ownerUrl}'\n`)
    const block = adapt(commands('Upgrade')[0] as string, {
      '/opt/sluice/scripts': `${repository}/scripts`,
      ' /etc/\n': ` ${folder}/\n`,
      'systemctl daemon-reload': 'true',
      '/opt/sluice-0.2.0': repository,
      '/opt/sluice\n': `${folder}/sluice\n`,
      '/etc/sluice/': `${folder}/`,
      '3000 3001': ports.join(' '),
      'systemctl restart "sluice-api@': `curl -fsS "${systemd}/`,
    })

    const statuses: Record<string, number> = {}
    let sent = 0
    let isOver = false
    const clients = Object.entries(proxies).flatMap(([name, { send }]) =>
      Array.from({ length: 4 }, async () => {
        while (!isOver) {
          const body = JSON.stringify({ source: `upgrade/${name}`, type: 't', id: String(++sent) })
          const answer = `${name} ${(await send('POST', '/ingest/v1/records', JSON_HEADERS, body)).status}`
          statuses[answer] = (statuses[answer] ?? 0) + 1
        }
      }),
    )
    const shell = spawn('bash', ['-c', block], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [output, [code]] = await Promise.all([shell.stdout.toArray(), once(shell, 'exit')])
    isOver = true
    await Promise.all(clients)
    t.equal(code, 0)
    t.match(Buffer.concat(output).toString(), 'nothing to migrate')
    const { 'caddy 201': caddy = 0, 'nginx 201': nginx = 0, 'nginx 502': reset = 0, ...others } = statuses
    t.ok(caddy > 0 && nginx > 0)
    t.same(others, {}, 'no request fails')
    // nginx does not know that an instance stops: see the manual. At most one connection per client and restart.
    t.ok(reset <= 8, `${reset} connections were reset`)
  },
)

const JSON_HEADERS = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }

async function checkProxy(t: Test, program: string, { send, folder }: RunningProxy): Promise<void> {
  const source = `https://${program}.example/a`
  const stored = await send(
    'POST',
    '/ingest/v1/records',
    JSON_HEADERS,
    JSON.stringify({ source, type: 't', id: '1/2' }),
  )
  t.equal(stored.status, 201)
  const location = String(stored.headers.location)
  t.equal(location, `/ingest/v1/records/${encodeURIComponent(source)}/1%2F2`)
  t.match(JSON.parse((await send('GET', location, JSON_HEADERS)).text), { source, id: '1/2' }, 'a source that is a URL')
  t.equal((await send('GET', '/ingest/')).headers.location, '/ingest/docs/')

  const large = Array.from({ length: 12 }, (_, id) => ({
    source,
    type: 't',
    id: `large-${id}`,
    data: 'x'.repeat(1_000_000),
  }))
  t.equal((await send('POST', '/ingest/v1/records', JSON_HEADERS, JSON.stringify(large))).status, 201)
  if (program === 'nginx') {
    // The HTTP server of Go, which Caddy uses, closes the connection instead of reading on.
    const tooLarge = await send('POST', '/ingest/v1/records', JSON_HEADERS, JSON.stringify([...large, ...large]))
    t.match(JSON.parse(tooLarge.text), { status: 413, code: 'body_too_large' }, 'the response is the one of Sluice')
  }
  const long = await send('GET', `/ingest/v1/records?id=${'x'.repeat(20_000)}`, JSON_HEADERS)
  t.match(JSON.parse(long.text), { status: 414, code: 'uri_too_long' })

  const lines = new PassThrough()
  const report = send('POST', '/ingest/v1/records', { ...JSON_HEADERS, 'content-type': 'application/x-ndjson' }, lines)
  lines.write(`${JSON.stringify({ source: program, type: 't', id: 'first' })}\n`)
  await until(
    'the first line to be committed while the request goes on',
    async () => (await send('GET', `/ingest/v1/records/${program}/first`, JSON_HEADERS)).status === 200,
  )
  lines.end(`${JSON.stringify({ source: program, type: 't', id: 'second' })}\n`)
  t.match(JSON.parse((await report).text).counts, { created: 2 })

  const selection = await send('GET', `/ingest/v1/records?source=${encodeURIComponent(source)}`, {
    ...JSON_HEADERS,
    accept: 'application/x-ndjson',
  })
  t.equal(selection.text.trim().split('\n').length, 13)

  for (const path of ['/v1/records', '/', '/ingest', '/ingestion/v1/records']) {
    const lost = await send('POST', path, JSON_HEADERS, JSON.stringify({ source, type: 't', id: path }))
    t.ok(lost.status >= 300, `POST ${path} is ${lost.status}: nothing is stored, and the sender learns it`)
  }
  t.match((await send('GET', '/ingest')).headers.location, /\/ingest\/$/)

  for (const path of ['/metrics', '/ingest/metrics']) t.notMatch((await send('GET', path)).text, 'sluice_', path)
  for (const path of ['/ingest/console', '/ingest/console/', '/ingest/console/app.js'])
    t.equal((await send('GET', path)).status, 404, path)
  const preflight = { origin: ORIGIN, 'access-control-request-method': 'POST' }
  const allowed = await send('OPTIONS', '/ingest/v1/records', preflight)
  t.match(allowed, { status: 204, headers: { 'access-control-allow-origin': ORIGIN } })
  const unauthorized = await send('POST', '/ingest/v1/records', { origin: ORIGIN }, '{}')
  t.match(unauthorized, { status: 401, headers: { 'access-control-allow-origin': ORIGIN } })

  const id = String(unauthorized.headers['x-request-id'])
  t.ok(servers.some(({ stdout }) => stdout().includes(id)) || (await logged(id)), 'the id of the request is in the log')
  await until('the line in the log of the proxy', async () => (await readFile(log(folder), 'utf8')).includes(id))
  const proxied = await readFile(log(folder), 'utf8')
  t.notMatch(proxied, /v1\/records/, 'which contains no path')
  t.notMatch(proxied, key, 'and no key')
}

const log = (folder: string) => join(folder, 'access.log')

/** The log is written every half second. */
async function logged(id: string): Promise<boolean> {
  await until('the line in the log', () => servers.some(({ stdout }) => stdout().includes(id)))
  return true
}
