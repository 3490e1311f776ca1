import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { PROBLEMS, type ProblemCode } from '../../src/problems.ts'
import { createApp } from '../helpers/app.ts'
import { scrape } from '../helpers/scrape.ts'
import { head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const { app, key, logs, makeKey } = await createApp(t)
const port = await listen(app)
const metricsPort = await listen(app.metricsServer)

interface RawResponse {
  status: number
  headers: string
  // biome-ignore lint/suspicious/noExplicitAny: the parsed body; each test knows its shape
  json: any
}

/** Sends bytes and reads until the server ends its side of the connection. @returns all responses in order */
async function talk(toPort: number, bytes: string | Buffer, { halfClose = false } = {}): Promise<RawResponse[]> {
  const socket = connect({ port: toPort, host: '127.0.0.1', allowHalfOpen: true })
  const chunks: Buffer[] = []
  socket.on('data', (chunk) => void chunks.push(chunk))
  socket.write(bytes)
  if (halfClose) socket.end()
  await once(socket, 'end')
  socket.destroy()
  let rest = Buffer.concat(chunks).toString('latin1')
  const responses: RawResponse[] = []
  while (rest !== '') {
    const [headers = ''] = rest.split('\r\n\r\n', 1)
    const end = headers.length + 4 + Number(/^content-length: (\d+)/im.exec(headers)?.[1])
    const json = JSON.parse(rest.slice(headers.length + 4, end))
    responses.push({ status: Number(headers.slice(9, 12)), headers, json })
    rest = rest.slice(end)
  }
  return responses
}

const authorized = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' }
const post = (headers: Record<string, string>) => head('POST', '/v1/records', { ...authorized, ...headers })
const TLS_HELLO = Buffer.from('16030100a5010000a10303', 'hex')
const LONG = 'x'.repeat(20_000)

/** Input, and the response that it must get. */
const REFUSED: [name: string, bytes: string | Buffer, code: ProblemCode, detail: RegExp][] = [
  ['an unknown method', 'FOO /healthz HTTP/1.1\r\nHost: x\r\n\r\n', 'not_implemented', /FOO/],
  ['the beginning of an unknown method', 'FO', 'not_implemented', /FO/],
  ['a method in lower case', 'get /healthz HTTP/1.1\r\nHost: x\r\n\r\n', 'not_implemented', /upper case/],
  ['CONNECT', 'CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n', 'not_implemented', /CONNECT/],
  ['a target that is too long', head('GET', `/${LONG}`), 'uri_too_long', /path and query/],
  ['a query that is too long', head('GET', `/v1/records?data=${LONG}`), 'uri_too_long', /path and query/],
  ['a target that does not end', `GET /${LONG}`, 'uri_too_long', /path and query/],
  ['a header that is too large', head('GET', '/healthz', { 'X-Big': LONG }), 'headers_too_large', /headers/],
  ['a header that does not end', `GET / HTTP/1.1\r\nX-Big: ${LONG}`, 'headers_too_large', /headers/],
  ['too many headers', `GET / HTTP/1.1\r\n${'A: b\r\n'.repeat(9000)}\r\n`, 'headers_too_large', /headers/],
  ['HTTP/1.2', 'GET / HTTP/1.2\r\nHost: x\r\n\r\n', 'http_version_not_supported', /HTTP\/1\.1/],
  ['HTTP/3', 'GET / HTTP/3.0\r\nHost: x\r\n\r\n', 'http_version_not_supported', /HTTP\/1\.1/],
  ['HTTP/2 without an upgrade', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'http_version_not_supported', /HTTP\/1\.1/],
  ['another protocol', 'GET / FTP/1.1\r\nHost: x\r\n\r\n', 'invalid_request', /HTTP/],
  ['TLS', TLS_HELLO, 'invalid_request', /TLS.*http:\/\//],
  ['SSH', 'SSH-2.0-OpenSSH_9.6\r\n', 'invalid_request', /HTTP/],
  ['a target that is no path', 'GET foo HTTP/1.1\r\nHost: x\r\n\r\n', 'invalid_request', /url/],
  ['line ends without CR', 'GET / HTTP/1.1\nHost: x\n\n', 'invalid_request', /CRLF/],
  ['a folded header', 'GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n', 'invalid_request', /whitespace/],
  ['a space before a colon', 'GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n', 'invalid_request', /header/],
  ['a control character', 'GET / HTTP/1.1\r\nHost: x\r\nA: \x01\r\n\r\n', 'invalid_request', /header value/],
  ['NUL', 'GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n', 'invalid_request', /header value/],
  [
    'a repeated length',
    `${head('POST', '/', { 'Content-Length': '2', 'content-length': '2' })}[]`,
    'invalid_request',
    /Content-Length/,
  ],
  ['a length that is no number', head('POST', '/', { 'Content-Length': '2a' }), 'invalid_request', /Content-Length/],
  [
    'a length and a coding',
    head('POST', '/', { 'Content-Length': '5', 'Transfer-Encoding': 'chunked' }),
    'invalid_request',
    /Content-Length/,
  ],
  [
    'chunked twice',
    head('POST', '/', { 'Transfer-Encoding': 'chunked, chunked' }),
    'invalid_request',
    /Transfer-Encoding/,
  ],
]

t.test('what Node.js refuses gets a problem document, a log line and a count', async (t) => {
  const counts = new Map<number, number>()
  for (const [name, bytes, code, detail] of REFUSED) {
    const [response, ...others] = await talk(port, bytes)
    const { status, title, retryable } = PROBLEMS[code]
    t.same(others, [], `${name}: one response`)
    t.equal(response?.status, status, `${name}: ${status}`)
    t.match(response?.headers, /^content-type: application\/problem\+json; charset=utf-8$/im, name)
    const document = response?.json
    t.match(document, { title, status, code, retryable, outcome: 'not_written', detail }, name)
    t.match(document.requestId, /^[\da-f-]{36}$/, name)
    t.match(response?.headers, new RegExp(`^x-request-id: ${document.requestId}$`, 'im'), name)
    const line = logs.find(({ requestId }) => requestId === document.requestId)
    t.match(line, { msg: 'request', route: null, status, code }, `${name}: log line`)
    counts.set(status, (counts.get(status) ?? 0) + 1)
  }
  const { value } = await scrape(app)
  for (const [status, count] of counts) {
    const labels = { method: 'other', route: 'none', status: String(status) }
    t.equal(value('sluice_http_request_duration_seconds_count', labels), count, `${status} is counted`)
  }
  t.notMatch(await app.metrics.metrics(), /FOO|CONNECT/, 'no label is what a client sent')
})

t.test('the port of the metrics refuses the same in the same way', async (t) => {
  for (const [name, bytes, code, detail] of REFUSED) {
    const [response] = await talk(metricsPort, bytes)
    t.match(response, { status: PROBLEMS[code].status, json: { code, detail } }, name)
  }
})

// The document of the second request was sent first, as if it were the response to the first one.
t.test('earlier requests on the connection get their responses first', async (t) => {
  const list = head('GET', '/v1/records', { Authorization: `Bearer ${key}` })
  for (const [name, bytes, code] of REFUSED) {
    if (bytes === TLS_HELLO) continue
    const responses = await talk(port, `${list}${list}${bytes}`)
    t.match(
      responses.map(({ status, json }) => [status, json.code]),
      [[200], [200], [PROBLEMS[code].status, code]],
      name,
    )
  }
  t.match(
    (await talk(port, `${head('GET', '/v1/records', { Connection: 'close' })}garbage`)).map(({ status }) => status),
    [401],
    'what follows the last request is ignored',
  )
})

t.test('a target that arrives in pieces is too long as well', async (t) => {
  const socket = connect(port, '127.0.0.1')
  const received = socket.setEncoding('latin1').toArray()
  const [theirs] = await once(app.server, 'connection')
  for (const piece of [`GET /${'x'.repeat(9000)}`, `${'x'.repeat(9000)} HTTP/1.1\r\n`]) {
    const expected = theirs.bytesRead + piece.length
    socket.write(piece)
    await until('the piece to be read', () => theirs.bytesRead >= expected || theirs.destroyed)
  }
  t.match((await received).join(''), /^HTTP\/1\.1 414 /)
})

t.test('a body with broken chunks is refused by its own request, and its stored lines are counted', async (t) => {
  const broken = `${post({ 'Transfer-Encoding': 'chunked' })}2\r\n[]\r\nzz\r\n`
  const [batch, ...others] = await talk(port, broken)
  t.same(others, [])
  t.match(batch, { status: 400, json: { code: 'invalid_request', instance: '/v1/records', detail: /chunk size/ } })
  t.equal(app.ingestMemory.used, 0)

  const line = '{"source":"broken","type":"t","id":"1"}\n'
  const headers = { 'Content-Type': 'application/x-ndjson', 'Transfer-Encoding': 'chunked' }
  const [lines] = await talk(port, `${post(headers)}${line.length.toString(16)}\r\n${line}\r\nzz\r\n`)
  t.match(lines, { status: 400, json: { code: 'invalid_request', counts: { created: 1 }, committedLines: 1 } })
  const requests = logs.filter(({ msg, requestId }) => msg === 'request' && requestId === lines?.json.requestId)
  t.match(requests, [{ route: '/v1/records', status: 400, code: 'invalid_request' }], 'one log line')
})

t.test('a body that breaks before its request reads it is refused as well', async (t) => {
  // An unknown key must be looked up first.
  const { token } = await makeKey()
  const headers = { Authorization: `Bearer ${token}`, 'Transfer-Encoding': 'chunked' }
  const [response] = await talk(port, `${post(headers)}zz\r\n`)
  t.match(response, { status: 400, json: { code: 'invalid_request', detail: /chunk size/ } })
})

t.test('a broken body whose request already has its response only ends the connection', async (t) => {
  const bytes = `${head('POST', '/v1/records', { 'Transfer-Encoding': 'chunked' })}zz\r\n`
  const responses = await talk(port, bytes)
  t.match(
    responses.map(({ status }) => status),
    [401],
  )
})

t.test('a client that closes its side in the middle of a request gets incomplete_body', async (t) => {
  for (const bytes of ['GET /healthz HTT', `${post({ 'Content-Length': '100' })}[`]) {
    const responses = await talk(port, bytes, { halfClose: true })
    t.match(responses, [{ status: 400, json: { code: 'incomplete_body', retryable: true, outcome: 'not_written' } }])
  }
})
