import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { Agent, request } from 'node:https'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import type { Test } from 'tap'
import { adapt, file, put } from './operator-manual.ts'
import { until } from './until.ts'

/** The name in the manual's files. */
const NAME = 'sluice.example.com'

interface ProxyAnswer {
  status: number
  headers: Record<string, string | string[] | undefined>
  text: string
}

export interface RunningProxy {
  folder: string
  /** Sends a request over TLS. */
  send(method: string, path: string, headers?: Record<string, string>, body?: string | Readable): Promise<ProxyAnswer>
}

type Program = 'nginx' | 'caddy'

/** Runs a proxy with the manual's file, in front of servers on these ports. It ends with `t`. */
export async function startProxy(t: Test, program: Program, ports: [number, number]): Promise<RunningProxy> {
  const folder = await mkdtemp(join(tmpdir(), 'proxy-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [certificate, key] = [join(folder, 'certificate'), join(folder, 'key')]
  const subject = ['-subj', `/CN=${NAME}`, '-addext', `subjectAltName=DNS:${NAME}`]
  execFileSync(
    'openssl',
    ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', certificate, ...subject],
    {
      stdio: 'ignore',
    },
  )
  const port = await freePort()
  const servers = { '127.0.0.1:3000': `127.0.0.1:${ports[0]}`, '127.0.0.1:3001': `127.0.0.1:${ports[1]}` }
  const child = await START[program]({ folder, certificate, key, port, servers })
  t.teardown(async () => {
    child.kill('SIGQUIT')
    if (child.exitCode === null) await once(child, 'exit')
  })

  const agent = new Agent({ keepAlive: true, ca: execFileSync('cat', [certificate]), servername: NAME })
  t.teardown(() => agent.destroy())
  const send: RunningProxy['send'] = async (method, path, headers = {}, body = '') => {
    const length = typeof body === 'string' ? { 'content-length': String(Buffer.byteLength(body)) } : {}
    const options = {
      host: '127.0.0.1',
      port,
      method,
      path,
      agent,
      headers: { host: `${NAME}:${port}`, ...length, ...headers },
    }
    const outgoing = request(options)
    if (typeof body === 'string') outgoing.end(body)
    else body.pipe(outgoing)
    const [response] = await once(outgoing, 'response')
    // A proxy may close the connection of a request whose body it does not want.
    outgoing.on('error', () => {})
    const text = Buffer.concat(await response.toArray()).toString()
    return { status: response.statusCode, headers: response.headers, text }
  }
  await until(`${program} to answer`, async () => {
    if (child.exitCode !== null) throw new Error(`${program} ended with ${child.exitCode}`)
    return send('GET', '/').then(
      () => true,
      () => false,
    )
  })
  return { folder, send }
}

interface Setup {
  folder: string
  certificate: string
  key: string
  port: number
  servers: Record<string, string>
}

/** Shorter times, as DRAIN_SECONDS is shorter in the test. */
const QUICK = {
  nginx: { 'keepalive_timeout 5s': 'keepalive_timeout 500ms' },
  caddy: { 'keepalive 5s': 'keepalive 500ms', 'health_interval 2s': 'health_interval 250ms' },
}

const START: Record<Program, (setup: Setup) => Promise<ChildProcess>> = {
  async nginx({ folder, certificate, key, port, servers }) {
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${name};`)
    const main = `user root root; pid pid; daemon off; worker_processes 1; events {}
      http { ${temporary.join(' ')} include sluice.conf; }`
    await put(join(folder, 'nginx.conf'), main)
    const replacements = {
      ...servers,
      'listen 443': `listen 127.0.0.1:${port}`,
      '/etc/ssl/sluice.example.com.pem': certificate,
      '/etc/ssl/sluice.example.com.key': key,
      '/var/log/nginx/sluice.log': 'access.log',
      ...QUICK.nginx,
    }
    await put(join(folder, 'sluice.conf'), adapt(file('/etc/nginx/conf.d/sluice.conf'), replacements))
    const args = ['-p', folder, '-e', 'error.log', '-c', 'nginx.conf']
    execFileSync('nginx', ['-t', ...args], { stdio: 'pipe' })
    return spawn('nginx', args, { stdio: 'ignore' })
  },
  async caddy({ folder, certificate, key, port, servers }) {
    const options = '{\nadmin off\nauto_https disable_redirects\n}\n'
    const site = `https://${NAME}:${port} {\n    bind 127.0.0.1\n    tls ${certificate} ${key}\n`
    const config = join(folder, 'Caddyfile')
    await put(
      config,
      options +
        adapt(file('/etc/caddy/Caddyfile'), {
          ...servers,
          [`${NAME} {\n`]: site,
          '/var/log/caddy/sluice.log': join(folder, 'access.log'),
          ...QUICK.caddy,
        }),
    )
    const env = { PATH: process.env.PATH, HOME: folder }
    execFileSync('caddy', ['validate', '--config', config], { env, stdio: 'pipe' })
    return spawn('caddy', ['run', '--config', config], { env, stdio: 'ignore' })
  },
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
