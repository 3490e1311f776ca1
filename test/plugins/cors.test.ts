import { chromium } from 'playwright-core'
import t from 'tap'
import { loadConfig } from '../../src/config.ts'
import { createApp } from '../helpers/app.ts'
import { startStub } from '../helpers/proxy.ts'
import { missing, pathOf } from '../helpers/skipping.ts'
import { exchange, head, listen } from '../helpers/socket.ts'

const PAGE = 'https://app.example.com'
const { app, key, database, makeKey } = await createApp(t, { CORS_ORIGINS: `${PAGE}, http://localhost:5173` })
const port = await listen(app)
const authorization = `Bearer ${key}`

const preflight = (origin: string, path: string, method: string, headers = 'authorization, content-type') =>
  exchange(
    port,
    head('OPTIONS', path, {
      Origin: origin,
      'Access-Control-Request-Method': method,
      'Access-Control-Request-Headers': headers,
    }),
  )

t.test('a preflight is allowed without a key, on every path and for every header', async (t) => {
  for (const [path, method] of [
    ['/v1/records', 'POST'],
    ['/v1/records', 'GET'],
    ['/v1/records/s/1', 'GET'],
    ['/v1/keys/1', 'DELETE'],
    // The request itself is refused, and the page can read why.
    ['/v1/records', 'PUT'],
    ['/nothing', 'POST'],
    ['/v1/records?x=100%', 'GET'],
    ['/v1/records/%zz/1', 'GET'],
    [`/v1/records/${'s'.repeat(2_000)}/1`, 'GET'],
  ] as const) {
    const answer = await preflight(PAGE, path, method, 'authorization,ce-id')
    t.equal(answer.status, 204, path.slice(0, 40))
    t.match(answer.headers, {
      'access-control-allow-origin': PAGE,
      'access-control-allow-methods': method,
      'access-control-allow-headers': 'authorization,ce-id',
      'access-control-max-age': '7200',
      'x-request-id': /./,
    })
    t.same(String(answer.headers.vary).split(', ').sort(), [
      'access-control-request-headers',
      'access-control-request-method',
      'origin',
    ])
    t.notOk('access-control-allow-credentials' in answer.headers)
  }
})

t.test('an origin that is not listed gets no permission, and everything else as usual', async (t) => {
  for (const origin of [
    'https://evil.example',
    'https://app.example.com.evil.example',
    'http://app.example.com',
    'null',
  ]) {
    const { headers } = await preflight(origin, '/v1/records', 'POST')
    t.match(headers, { allow: 'GET, HEAD, OPTIONS, POST', vary: 'origin' })
    t.strictSame(
      Object.keys(headers).filter((name) => name.startsWith('access-control-')),
      [],
      origin,
    )
  }
  const answer = await exchange(
    port,
    head('GET', '/v1/records', { Origin: 'https://evil.example', Authorization: authorization }),
  )
  t.equal(answer.status, 200)
  t.notOk('access-control-allow-origin' in answer.headers)
  t.equal(answer.headers.vary, 'accept, accept-encoding, origin', 'a cache must not give this response to the page')
})

t.test(
  'OPTIONS without a preflight is what it is without CORS: a list of methods, or a handshake of webhooks',
  async (t) => {
    for (const headers of [{}, { Origin: PAGE }, { Origin: PAGE, 'Access-Control-Request-Method': '' }] as Record<
      string,
      string
    >[]) {
      const list = await exchange(port, head('OPTIONS', '/v1/keys', headers))
      t.match(list, { status: 204, headers: { allow: 'GET, HEAD, OPTIONS, POST' } })
      const handshake = await exchange(
        port,
        head('OPTIONS', '/v1/records', { 'WebHook-Request-Origin': 'e.example', ...headers }),
      )
      t.match(handshake, { status: 200, headers: { 'webhook-allowed-origin': 'e.example' } })
      t.equal((await exchange(port, head('OPTIONS', '*', headers))).status, 204)
    }
  },
)

t.test('the page can read every response after its preflight, except for a URL that is too long', async (t) => {
  const long = 'x'.repeat(20_000)
  const json = { 'Content-Type': 'application/json', Authorization: authorization }
  const { token } = await makeKey({ recordsPerSecond: 1 })
  const requests: [status: number, method: string, path: string, headers: Record<string, string>, body?: string][] = [
    [201, 'POST', '/v1/records', json, '{"source":"s","type":"t","id":"1"}'],
    [200, 'GET', '/v1/records', { Authorization: authorization }],
    [200, 'GET', '/v1/records', { Authorization: authorization, 'Accept-Encoding': 'gzip' }],
    [200, 'GET', '/v1/records/s/1', { Authorization: authorization }],
    [200, 'GET', '/openapi.json', {}],
    [200, 'GET', '/docs/', {}],
    [200, 'GET', '/docs/static/swagger-ui.css', {}],
    [200, 'GET', '/healthz', {}],
    [302, 'GET', '/', {}],
    [401, 'POST', '/v1/records', { 'Content-Type': 'application/json' }],
    [401, 'GET', '/v1/keys', { Authorization: 'Bearer nobody' }],
    [400, 'POST', '/v1/records', json, '{'],
    [400, 'GET', '/v1/records?x=100%', { Authorization: authorization }],
    [400, 'GET', '/v1/records?x=1', { Authorization: authorization }],
    [404, 'GET', '/nothing', {}],
    [405, 'PUT', '/v1/records', {}],
    [406, 'GET', '/v1/records', { Authorization: authorization, Accept: 'image/png' }],
    [413, 'POST', '/v1/records', json, JSON.stringify({ source: 's', type: 't', data: 'x'.repeat(1_100_000) })],
    [415, 'POST', '/v1/records', { ...json, 'Content-Type': 'text/html' }, '<p>'],
    [
      200,
      'POST',
      '/v1/records',
      { ...json, 'Content-Type': 'application/x-ndjson', Prefer: 'return=minimal' },
      '{"source":"s","type":"t","id":"1"}\n',
    ],
    [
      201,
      'POST',
      '/v1/records',
      { ...json, Authorization: `Bearer ${token}` },
      JSON.stringify(Array.from({ length: 20 }, (_, id) => ({ source: 's', type: 't', id: `r${id}` }))),
    ],
    [429, 'POST', '/v1/records', { ...json, Authorization: `Bearer ${token}` }, '{}'],
    [400, 'GET', '/v1/records/%zz/1', { Authorization: authorization }],
    [414, 'GET', `/v1/records?id=${long}`, {}],
    [431, 'GET', '/v1/records', { 'X-Long': long }],
  ]
  const seen = new Set<string>()
  for (const [status, method, path, headers, body = ''] of requests) {
    const length = { 'Content-Length': String(Buffer.byteLength(body)) }
    const answer = await exchange(port, head(method, path, { Origin: PAGE, ...headers, ...length }), body)
    const name = `${method} ${path.slice(0, 40)}: ${status}`
    const names = Object.keys({ ...headers, ...length }).join(',')
    // The header Authorization needs a preflight, with the same URL.
    t.equal((await preflight(PAGE, path, method, names)).status, status === 414 ? 414 : 204, `${name}, its preflight`)
    t.equal(answer.status, status, name)
    t.equal(answer.headers['access-control-allow-origin'], PAGE, name)
    t.match(answer.headers.vary, /\borigin\b/, name)
    for (const header of Object.keys(answer.headers)) seen.add(header)
  }

  const { headers } = await exchange(port, head('GET', '/healthz', { Origin: PAGE }))
  const exposed = String(headers['access-control-expose-headers']).toLowerCase().split(', ')
  // What every page can read (Fetch standard, CORS-safelisted response-header names), and what is for browsers and proxies.
  const others =
    /^(?:access-control-.*|cache-control|content-language|content-length|content-type|expires|last-modified|pragma|connection|keep-alive|date|transfer-encoding|content-security-policy|etag|accept-ranges|x-content-type-options|cross-origin-resource-policy)$/
  t.strictSame(
    [...seen].filter((name) => !others.test(name) && !exposed.includes(name)),
    [],
    'every header can be read',
  )
  t.ok(['link', 'retry-after', 'ratelimit', 'location', 'x-request-id'].every((name) => exposed.includes(name)))
})

t.test('with *, every origin may call the API, and responses do not depend on it', async (t) => {
  const { app } = await createApp(t, { CORS_ORIGINS: '*' }, database)
  const port = await listen(app)
  for (const origin of ['https://anything.example', 'null']) {
    const { headers } = await exchange(port, head('GET', '/v1/records', { Origin: origin }))
    t.match(headers, { 'access-control-allow-origin': '*', vary: undefined })
  }
  t.equal((await exchange(port, 'bad\r\n\r\n')).headers['access-control-allow-origin'], '*')
})

t.test('without the setting, no response has a header of CORS', async (t) => {
  const { app } = await createApp(t, {}, database)
  const headers = { origin: PAGE, 'access-control-request-method': 'POST' }
  for (const method of ['OPTIONS', 'GET'] as const) {
    const answer = await app.inject({ method, url: '/v1/records', headers })
    t.strictSame(
      Object.keys(answer.headers).filter((name) => /^access-control|^vary/.test(name)),
      [],
      method,
    )
  }
})

t.test('a list that no browser could match is refused at the start', async (t) => {
  t.throws(() => loadConfig({ CORS_ORIGINS: `${PAGE}/` }), {
    name: 'ConfigError',
    message: `CORS_ORIGINS has "${PAGE}/", but browsers write an origin like ${PAGE}`,
  })
})

t.test(
  'a page in a browser stores a record, and reads why another one is refused',
  { skip: missing('chromium') },
  async (t) => {
    const page = await startStub(t, async (_request, response) =>
      response.setHeader('content-type', 'text/html').end('<p>'),
    )
    const origin = new URL(page).origin
    const { app } = await createApp(t, { CORS_ORIGINS: origin }, database)
    const api = `http://127.0.0.1:${await listen(app)}/v1/records`
    const browser = await chromium.launch({
      executablePath: pathOf('chromium'),
      args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
    })
    t.teardown(() => browser.close())
    const tab = await browser.newPage()
    tab.setDefaultTimeout(120_000)
    await tab.goto(page)
    const send = (body: string, authorization: string) =>
      tab.evaluate(
        async ([url, body, authorization]) => {
          const headers = { authorization, 'content-type': 'application/json', 'idempotency-key': 'k' }
          const response = await fetch(url, { method: 'POST', headers, body })
          const id = response.headers.get('x-request-id')
          return {
            status: response.status,
            location: response.headers.get('location'),
            id,
            json: (await response.json()) as { code: string; requestId: string },
          }
        },
        [api, body, authorization] as const,
      )
    t.match(await send('{"source":"page","type":"t"}', authorization), { status: 201, location: '/v1/records/page/k' })
    const refused = await send('{}', 'Bearer nobody')
    t.match(refused, { status: 401, json: { code: 'unauthorized' } })
    t.equal(refused.id, refused.json.requestId)
  },
)
