import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import type { ProblemCode } from '../../src/problems.ts'
import { createApp } from '../helpers/app.ts'
import { isProblem } from '../helpers/problem.ts'
import { scrape } from '../helpers/scrape.ts'
import { exchange, head, listen } from '../helpers/socket.ts'

const { app, key, logs } = await createApp(t)
const port = await listen(app)
const metricsPort = await listen(app.metricsServer)
const RECORD = '{"source":"rules","type":"t"}'
const authorized = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' }
const get = (...lines: string[]) => ['GET /healthz HTTP/1.1', ...lines, '', ''].join('\r\n')
const post = (headers: Record<string, string>, version = '1.1') =>
  head('POST', '/v1/records', { ...authorized, ...headers }).replace('HTTP/1.1', `HTTP/${version}`)
const CHUNKS = `${RECORD.length.toString(16)}\r\n${RECORD}\r\n0\r\n\r\n`

const REFUSED: [name: string, bytes: string, code: ProblemCode, detail: RegExp][] = [
  ['no Host', get(), 'invalid_header', /Host is missing/],
  ['two Hosts', get('Host: a', 'Host: b'), 'invalid_header', /Host occurs twice/],
  ['two Hosts that are equal', get('Host: a', 'hOST: a'), 'invalid_header', /Host occurs twice/],
  ...[
    'a b',
    'a/b',
    'a?b',
    'a#b',
    'user@a',
    'http://a',
    'a:b',
    'a:1:2',
    '%zz',
    '[::1',
    '::1',
    '[g]',
    'a\\b',
    '<a>',
    '"a"',
  ].map((host): (typeof REFUSED)[number] => [
    `Host: ${host}`,
    get(`Host: ${host}`),
    'invalid_header',
    /Host is not a host/,
  ]),
  ['Expect: foo', get('Host: a', 'Expect: foo'), 'expectation_failed', /100-continue/],
  ['two expectations', get('Host: a', 'Expect: 100-continue, foo'), 'expectation_failed', /100-continue/],
  [
    'gzip below chunked',
    `${post({ 'Transfer-Encoding': 'gzip, chunked' })}${CHUNKS}`,
    'not_implemented',
    /gzip, chunked/,
  ],
  ['gzip instead of chunked', post({ 'Transfer-Encoding': 'gzip' }), 'invalid_header', /chunked/],
  [
    'a coding in HTTP/1.0',
    `${post({ 'Transfer-Encoding': 'chunked' }, '1.0')}${CHUNKS}`,
    'invalid_header',
    /HTTP\/1\.0/,
  ],
  ['HTTP/0.9', 'GET /healthz HTTP/0.9\r\n\r\n', 'http_version_not_supported', /HTTP\/1\.1/],
  ['HTTP/0.9 without a version', 'GET /healthz\r\n\r\n', 'http_version_not_supported', /HTTP\/1\.1/],
  ['HTTP/2.0 as text', 'GET /healthz HTTP/2.0\r\nHost: a\r\n\r\n', 'http_version_not_supported', /HTTP\/1\.1/],
  ['a query with %zz', head('GET', '/v1/records?source=%zz', authorized), 'invalid_query', /percent/],
  ['a query that is not UTF-8', head('GET', '/v1/records?source=%ff', authorized), 'invalid_query', /UTF-8/],
]

t.test('a request that breaks a rule of HTTP gets a problem document, a log line and a count', async (t) => {
  for (const [name, bytes, code, detail] of REFUSED) {
    const answer = await exchange(port, bytes)
    isProblem(t, answer, code, { name })
    t.match(answer.json.detail, detail, name)
    const line = logs.find(({ requestId }) => requestId === answer.json.requestId)
    t.match(line, { msg: 'request', status: answer.status, code }, `${name}: log line`)
  }
  const { value } = await scrape(app)
  const labels = { method: 'GET', route: '/healthz', status: '417' }
  t.equal(value('sluice_http_request_duration_seconds_count', labels), 2)
})

t.test('the port of the metrics has the same rules', async (t) => {
  for (const [name, bytes, code] of REFUSED) {
    // Two of the paths exist only on the other port, but the rules come first.
    isProblem(t, await exchange(metricsPort, bytes), code, { name })
  }
})

t.test('after faulty framing, the connection is closed', async (t) => {
  for (const coding of ['gzip', 'gzip, chunked']) {
    const answer = await exchange(port, post({ 'Transfer-Encoding': coding }))
    t.equal(answer.headers.connection, 'close', coding)
  }
})

t.test('what the rules allow is processed', async (t) => {
  const hosts = ['', 'a', 'A.example:80', 'a_b', '127.0.0.1:3000', '[::1]', '[::1]:3000', 'xn--caf-dma', '%41', 'a:']
  for (const host of hosts) t.equal((await exchange(port, get(`Host: ${host}`))).status, 200, `Host: ${host}`)
  for (const [name, bytes, status] of [
    ['HTTP/1.0 without Host', 'GET /healthz HTTP/1.0\r\n\r\n', 200],
    ['HTTP/1.0 with any expectation', 'GET /healthz HTTP/1.0\r\nExpect: foo\r\n\r\n', 200],
    ['a URL as the target', 'GET http://other.example/healthz?a=b HTTP/1.1\r\nHost: a\r\n\r\n', 200],
    ['a URL in upper case', 'GET HTTP://OTHER.EXAMPLE:80/healthz HTTP/1.1\r\nHost: a\r\n\r\n', 200],
    ['chunked in upper case', `${post({ 'Transfer-Encoding': 'CHUNKED' })}${CHUNKS}`, 201],
    [
      'an upgrade to HTTP/2',
      get('Host: a', 'Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AA'),
      200,
    ],
    ['an upgrade to WebSocket', get('Host: a', 'Connection: Upgrade', 'Upgrade: websocket'), 200],
    [
      'an upgrade with a body',
      `${post({ Connection: 'Upgrade', Upgrade: 'h2c', 'Content-Length': String(RECORD.length) })}${RECORD}`,
      201,
    ],
    [
      'an upgrade with chunks',
      `${post({ Connection: 'Upgrade', Upgrade: 'h2c', 'Transfer-Encoding': 'chunked' })}${CHUNKS}`,
      201,
    ],
    ['empty lines before the request', `\r\n\r\n${get('Host: a')}`, 200],
  ] as const) {
    t.equal((await exchange(port, bytes)).status, status, name)
  }
})

t.test('the target * is only for OPTIONS', async (t) => {
  const answer = await exchange(port, 'GET * HTTP/1.1\r\nHost: a\r\n\r\n')
  t.match(answer, { status: 400, json: { code: 'invalid_request', detail: /OPTIONS/ } })
})

t.test('the target of a URL is its path and query', async (t) => {
  const absolute = (url: string) =>
    exchange(port, `GET ${url} HTTP/1.1\r\nHost: a\r\n${`Authorization: Bearer ${key}`}\r\n\r\n`)
  t.equal((await absolute('http://a/v1/records?limit=1')).json.records.length, 1)
  t.match((await absolute('http://a/v1/records?limit=1')).headers.link, /^<\/v1\/records\?limit=1&cursor=/)
  const missing = await absolute('http://a/nothing?x=1')
  isProblem(t, missing, 'route_not_found')
  t.equal(missing.json.instance, '/nothing')
  const root = await exchange(port, head('GET', '/'))
  t.equal((await absolute('http://a?x=1')).status, root.status, 'a URL without a path')
  t.equal((await absolute('http://a')).status, root.status)
})

t.test('an HTTP/1.0 client that expects 100 Continue gets only the response', async (t) => {
  const socket = connect(port, '127.0.0.1')
  const headers = { Expect: '100-continue', 'Content-Length': String(RECORD.length) }
  socket.write(`${post(headers, '1.0')}${RECORD}`)
  const [received] = await once(socket.setEncoding('latin1'), 'data')
  t.match(received, /^HTTP\/1\.1 201 /)
  socket.destroy()
})
