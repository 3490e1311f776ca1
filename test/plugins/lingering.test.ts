import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ProblemCode } from '../../src/problems.ts'
import { createApp } from '../helpers/app.ts'
import { ownFolder } from '../helpers/own-server.ts'
import { missing } from '../helpers/skipping.ts'
import { head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const MiB = 1024 * 1024
/** Larger than a body may be, and than what the kernels buffer. */
const LARGE = Buffer.alloc(20 * MiB, ' ')

const { app, key, makeKey, post } = await createApp(t)
const port = await listen(app)
const reader = (await makeKey({ scopes: ['read'] })).token
const limited = (await makeKey({ recordsPerSecond: 1 })).token
await post(
  Array.from({ length: 1000 }, () => ({ source: 's', type: 't' })),
  { authorization: `Bearer ${limited}` },
)
const json = (token: string) => ({ Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' })

/** Requests with a body that nobody needs. */
const REFUSED: [code: ProblemCode, method: string, path: string, headers: Record<string, string>][] = [
  ['body_too_large', 'POST', '/v1/records', json(key)],
  ['unauthorized', 'POST', '/v1/records', {}],
  ['unauthorized', 'POST', '/v1/records', json('unknown')],
  ['rate_limited', 'POST', '/v1/records', json(limited)],
  ['forbidden', 'POST', '/v1/records', json(reader)],
  ['unsupported_media_type', 'POST', '/v1/records', { ...json(key), 'Content-Type': 'text/plain' }],
  ['unsupported_media_type', 'POST', '/v1/keys', { ...json(key), 'Content-Type': 'not a type' }],
  ['unsupported_encoding', 'POST', '/v1/records', { ...json(key), 'Content-Encoding': 'compress' }],
  ['corrupt_encoding', 'POST', '/v1/records', { ...json(key), 'Content-Encoding': 'gzip' }],
  ['body_too_large', 'POST', '/v1/keys', json(key)],
  ['invalid_header', 'POST', '/v1/records', { ...json(key), host: 'second' }],
  ['expectation_failed', 'POST', '/v1/records', { ...json(key), Expect: 'nothing' }],
  ['method_not_allowed', 'PUT', '/v1/records', json(key)],
  ['route_not_found', 'POST', '/records', json(key)],
  ['invalid_request', 'POST', '/%zz', json(key)],
  ['not_implemented', 'FOO', '/v1/records', json(key)],
]

/** A client that reads only after it has written everything, as urllib and many others do. @returns the response */
async function writeThenRead(bytes: string, body: Buffer): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  socket.pause()
  socket.write(bytes)
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.write(body, (error) => (error ? reject(error) : resolve()))
  })
  return (await socket.setEncoding('latin1').toArray()).join('')
}

t.test('a client that reads after it has sent a large body gets the response to it', async (t) => {
  for (const [code, method, path, headers] of REFUSED) {
    const length = { 'Content-Length': String(LARGE.length), Connection: 'close' }
    const response = await writeThenRead(head(method, path, { ...headers, ...length }), LARGE)
    t.match(
      response,
      new RegExp(`^HTTP/1.1 4\\d\\d .*"code":"${code}"|^HTTP/1.1 501 .*"code":"${code}"`, 's'),
      `${method} ${path}`,
    )
  }
  const chunked = head('POST', '/v1/records', { ...json(key), 'Transfer-Encoding': 'chunked' })
  t.match(await writeThenRead(`${chunked}zz\r\n`, LARGE), /"code":"invalid_request"/, 'after broken chunks')
  t.equal(app.ingestMemory.used, 0)
})

t.test('fetch gets the response to a large body', async (t) => {
  for (const [code, method, path, headers] of REFUSED) {
    if (method === 'FOO' || 'host' in headers || 'Expect' in headers) continue
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method, headers, body: LARGE })
    t.match(await response.json(), { code, status: response.status }, `${method} ${path}`)
  }
})

/** Runs a program with the large body as its input. @returns what it prints */
async function run(program: string, args: string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  // It may end before it has read everything.
  child.stdin.on('error', () => {}).end(LARGE)
  return (await child.stdout.setEncoding('utf8').toArray()).join('')
}

t.test('curl gets the response to a large body', { skip: missing('curl') }, async (t) => {
  const url = `http://127.0.0.1:${port}/v1/records`
  const args = [
    '-sS',
    '-H',
    `Authorization: Bearer ${key}`,
    '-H',
    'Content-Type: application/json',
    '--data-binary',
    '@-',
    url,
  ]
  t.match(await run('curl', args), /"code":"body_too_large"/)
  t.match(await run('curl', ['-H', 'Expect:', ...args]), /"code":"body_too_large"/, 'without 100-continue')
  t.match(await run('curl', ['-0', '-H', 'Expect:', ...args]), /"code":"body_too_large"/, 'with HTTP/1.0')
})

t.test('urllib of Python gets the response to a large body', { skip: missing('python3') }, async (t) => {
  const program = `
import sys, urllib.request, urllib.error
for key in sys.argv[2:]:
    headers = {'Authorization': 'Bearer ' + key, 'Content-Type': 'application/json'}
    try:
        urllib.request.urlopen(urllib.request.Request(sys.argv[1], b' ' * ${LARGE.length}, headers))
    except urllib.error.HTTPError as error:
        print(error.code)
`
  const url = `http://127.0.0.1:${port}/v1/records`
  t.same((await run('python3', ['-c', program, url, key, reader, 'unknown'])).trim().split('\n'), ['413', '403', '401'])
})

/** nginx in front of the server, with the defaults of its proxy module. @returns its port */
async function startNginx(t: Test, settings: string): Promise<number> {
  const folder = await ownFolder(t)
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port: free } = probe.address() as { port: number }
  probe.close()
  const config = join(folder, '..', 'nginx.conf')
  await writeFile(
    config,
    `daemon off; master_process off; pid ${config}.pid; error_log stderr crit;
events {}
http {
  access_log off; client_max_body_size 0; ${settings}
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${config}.${name};`).join(' ')}
  server { listen 127.0.0.1:${free}; location / { proxy_pass http://127.0.0.1:${port}; } }
}`,
  )
  const nginx = spawn('nginx', ['-c', config], { stdio: ['ignore', 'ignore', 'inherit'] })
  t.teardown(async () => {
    nginx.kill()
    await once(nginx, 'exit')
  })
  const isOpen = () =>
    new Promise<boolean>((resolve) => {
      const socket = connect(free, '127.0.0.1', () => resolve(!socket.destroy().connecting))
      socket.on('error', () => resolve(false))
    })
  await until('nginx to listen', isOpen)
  return free
}

t.test('behind nginx, a refused body keeps its status', { skip: missing('nginx') }, async (t) => {
  for (const settings of [
    '',
    'proxy_request_buffering off;',
    'proxy_http_version 1.1; proxy_set_header Connection "";',
  ]) {
    const proxy = await startNginx(t, settings)
    for (const [token, status] of [
      [key, 413],
      [reader, 403],
      ['unknown', 401],
    ] as const) {
      const options = { method: 'POST', headers: json(token), body: LARGE }
      const response = await fetch(`http://127.0.0.1:${proxy}/v1/records`, options)
      t.match(await response.json(), { status }, `${settings} ${status}`)
      t.equal(response.status, status)
    }
  }
})

t.test('a connection that its client does not close is closed after STALL_SECONDS', async (t) => {
  const strict = (await createApp(t, { STALL_SECONDS: '1' })).app
  const strictPort = await listen(strict)
  const accepted = once(strict.server, 'connection')
  const socket = connect({ port: strictPort, host: '127.0.0.1', allowHalfOpen: true })
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  const [theirs] = (await accepted) as [Socket]
  const closed = once(theirs, 'close')
  socket.write(head('GET', '/healthz', { Connection: 'close' }))
  const received = (await socket.setEncoding('latin1').toArray()).join('')
  t.match(received, /ok\n$/)
  await closed
})

t.test('a server that closes does not wait for clients that do not', async (t) => {
  // After fifteen seconds, the remaining connections would be cut off, with a line in the log.
  const own = await createApp(t, { STALL_SECONDS: '60', CLOSE_SECONDS: '10' })
  const ownPort = await listen(own.app)
  const lingerers = await Promise.all(
    ['before', 'while'].map(async () => {
      const socket = connect({ port: ownPort, host: '127.0.0.1', allowHalfOpen: true })
      t.teardown(() => socket.destroy())
      socket.on('error', () => {})
      await once(socket, 'connect')
      return socket
    }),
  )
  const [before, during] = lingerers as [Socket, Socket]
  before.write(head('POST', '/nothing', { Connection: 'close', 'Content-Length': '10' }))
  await once(before.resume(), 'end')
  // This one still sends lines when the server closes.
  const lines = { Authorization: `Bearer ${own.key}`, 'Content-Type': 'application/x-ndjson', 'Content-Length': '10' }
  during.write(head('POST', '/v1/records', lines))
  await until('the request', () => own.app.ingestMemory.used > 0)
  const closed = own.app.close()
  const received = (await during.setEncoding('latin1').toArray()).join('')
  t.match(received, /^HTTP\/1\.1 503 /)
  await closed
  t.same(
    own.logs.filter(({ connections }) => connections !== undefined),
    [],
  )
})

t.test('what follows the last request of a connection is not processed', async (t) => {
  let requests = 0
  app.server.on('request', () => requests++)
  const socket = connect(port, '127.0.0.1')
  socket.write(head('GET', '/%zz'))
  const [first] = (await once(socket.setEncoding('latin1'), 'data')) as [string]
  t.match(first, /^HTTP\/1\.1 400 .*connection: close/is)
  socket.write(head('GET', '/healthz'))
  await once(socket.resume(), 'close')
  t.equal(requests, 1)
})
