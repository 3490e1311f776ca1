import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { isProblem } from '../helpers/problem.ts'
import { exchange, head, listen } from '../helpers/socket.ts'

const { app } = await createApp(t)
const port = await listen(app)
type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'OPTIONS'

async function ask(method: Method, url: string, headers: Record<string, string> = {}, payload = '') {
  const answer = await app.inject({ method, url, headers, ...(payload === '' ? {} : { payload }) })
  return { status: answer.statusCode, headers: answer.headers, json: answer.json() }
}

t.test('an unknown path is 404, whatever is sent to it', async (t) => {
  for (const path of [
    '/v1',
    '/v1/',
    '/v1/nothing',
    '/v2/records',
    '/v1/records/only-source',
    '/V1/records',
    '/v1/records/',
    '/records',
  ]) {
    isProblem(t, await ask('GET', path), 'not_found', { name: path })
  }
  isProblem(t, await ask('POST', '/nothing', { 'content-type': 'text/xml' }, '<a/>'), 'not_found', { name: 'as XML' })
  isProblem(t, await ask('DELETE', '/nothing'), 'not_found', { name: 'DELETE' })
})

// Fastify also parses the body for a 404, and responded with 400 if it was broken.
t.test('an unknown path is 404 even with a broken body', async (t) => {
  isProblem(t, await ask('POST', '/nothing', { 'content-type': 'application/json' }, '{"secret'), 'not_found')
})

t.test('an unknown method on a known path is 405 and names the allowed ones, without a key', async (t) => {
  for (const [method, path, allow] of [
    ['PUT', '/v1/records', 'GET, HEAD, OPTIONS, POST'],
    ['DELETE', '/v1/records', 'GET, HEAD, OPTIONS, POST'],
    ['PATCH', '/v1/records', 'GET, HEAD, OPTIONS, POST'],
    ['OPTIONS', '/v1/records/s/1', 'GET, HEAD'],
    ['DELETE', '/v1/records/s/1', 'GET, HEAD'],
    ['POST', '/v1/records/s/1', 'GET, HEAD'],
    ['POST', '/healthz', 'GET, HEAD'],
    ['PUT', '/openapi.json', 'GET, HEAD'],
  ] as const) {
    const answer = await ask(method, path, { 'content-type': 'application/json' }, method === 'OPTIONS' ? '' : '{')
    isProblem(t, answer, 'method_not_allowed', { name: `${method} ${path}` })
    t.equal(answer.headers.allow, allow, `${method} ${path}`)
  }
})

t.test('HEAD has the status of GET and no body', async (t) => {
  const answer = await app.inject({ method: 'HEAD', url: '/healthz' })
  t.equal(answer.statusCode, 200)
  t.equal(answer.body, '')
})

t.test('input that is not valid HTTP gets a problem on the raw connection', async (t) => {
  for (const [name, bytes, status, code] of [
    ['an invented method', 'FOO / HTTP/1.1\r\nHost: x\r\n\r\n', 400, 'invalid_request'],
    ['TLS', '\x16\x03\x01\x02\x00\x01\x00', 400, 'invalid_request'],
    [
      'two lengths',
      head('POST', '/v1/records', { 'Content-Length': '3', 'Transfer-Encoding': 'chunked' }),
      400,
      'invalid_request',
    ],
    ['a huge header', head('GET', '/healthz', { 'X-Big': 'x'.repeat(20_000) }), 431, 'headers_too_large'],
  ] as const) {
    const answer = await exchange(port, bytes)
    t.equal(answer.status, status, name)
    t.equal(answer.headers['content-type'], 'application/problem+json', name)
    t.match(answer.json, { status, code, retryable: false, outcome: 'not_written' }, name)
  }
  t.equal((await exchange(port, head('GET', '/healthz'))).status, 200, 'the server still works')
})

// If our own code fails after a commit, the problem must not say that nothing was written.
t.test('the outcome of a defect is unknown if the request may write, and not_written if it reads', async (t) => {
  const broken = await createApp(t)
  broken.app.writer.submit = () => {
    throw new TypeError('a defect')
  }
  const answer = await broken.post({ source: 's', type: 't' })
  t.match(answer, { status: 500, json: { code: 'internal_error', outcome: 'unknown' } })
  broken.app.semaphores.read.run = async () => {
    throw new TypeError('a defect')
  }
  t.match((await broken.get('/v1/records/s/1')).json, { code: 'internal_error', outcome: 'not_written' })
})
