import { brotliCompressSync, constants } from 'node:zlib'
import t, { type Test } from 'tap'
import { createApp } from '../helpers/app.ts'
import { exchange, head, listen } from '../helpers/socket.ts'

// To explain a refusal, Sluice looks at what the client sent. A hint that inflated the beginning of a body blocked the process for three
// seconds, for 203 bytes; a regular expression did so for two, for 60,000 blanks and without a key. So processor time is compared with
// that of a request of the same size that is accepted. In this process, a refusal costs up to three times as much; patterns that
// are not linear cost dozens or hundreds of times as much.
const FACTOR = 15
const TRIES = 3
/** In bytes. Headers may have 16 KiB. */
const BODY = 60_000
const HEADER = 15_000

const { app, key } = await createApp(t, { CORS_ORIGINS: 'https://app.example.com', SHED_INGEST_SECONDS: '60' })
const authorization = `Bearer ${key}`

interface Request {
  method?: 'GET' | 'POST'
  url?: string
  headers?: Record<string, string>
  payload?: string | Buffer
}

const JSON_TYPE = { 'content-type': 'application/json' }
const LINES = { 'content-type': 'application/x-ndjson' }
const RECORD = { source: 'worst', type: 't' }

const post = (payload: string | Buffer | object, headers: Record<string, string> = JSON_TYPE): Request => ({
  headers,
  payload: typeof payload === 'string' || Buffer.isBuffer(payload) ? payload : JSON.stringify(payload),
})

/** Long runs of what a pattern may stumble over. */
const UNITS = [...' \t\n"\'\\[{%-=0,:/\u00e9\u{1f980}', '[{', '0.', ', ', 'a=', 'x:']
const run = (unit: string, bytes: number) => unit.repeat(bytes / Buffer.byteLength(unit))

/** The processor time of the main thread, in microseconds: the least of some tries. */
async function cost(send: () => Promise<unknown>): Promise<number> {
  const times: number[] = []
  for (let tries = 0; tries < TRIES; tries++) {
    const before = process.threadCpuUsage()
    await send()
    const { user, system } = process.threadCpuUsage(before)
    times.push(user + system)
  }
  return Math.min(...times)
}

async function inject({
  method = 'POST',
  url = '/v1/records',
  headers = {},
  payload = '{}',
}: Request): Promise<number> {
  const options = { method, url, headers: { authorization, ...headers }, ...(method === 'POST' && { payload }) }
  return (await app.inject(options)).statusCode
}

/** The costs of accepted requests by their size. */
const accepted = {
  body: await cost(() => inject(post({ ...RECORD, data: 'x'.repeat(BODY) }))),
  header: await cost(() => inject({ ...post(RECORD), headers: { ...JSON_TYPE, 'x-padding': 'x'.repeat(HEADER) } })),
  small: await cost(() => inject(post(RECORD))),
}

function isCheap(t: Test, name: string, actual: number, size: keyof typeof accepted): void {
  t.ok(
    actual < FACTOR * accepted[size],
    `${name}: ${actual} µs; a request of this size that is accepted takes ${accepted[size]} µs`,
  )
}

/** Bodies of about the size `body`. */
const BODIES: [name: string, request: Request][] = UNITS.flatMap((unit) => {
  const long = run(unit, BODY)
  // One line. Thousands of lines are in worst-formats.test.ts.
  const line = unit === '\n' ? '' : long
  const name = JSON.stringify(unit)
  const record = (members: object) => post({ ...RECORD, ...members })
  return [
    [`${name}, as JSON`, post(`${long}x`)],
    [`${name}, within JSON`, post(`{"source":"s"${long}x`)],
    [`${name}, at the end of JSON`, post(`${JSON.stringify(RECORD)}${long}x`)],
    [`${name}, as a line`, post(`${line}x`, LINES)],
    [`${name}, before a byte that is not UTF-8`, post(Buffer.concat([Buffer.from(long), Buffer.of(0xff)]))],
    [
      `${name}, after a byte that is not UTF-8, as a line`,
      post(Buffer.concat([Buffer.of(0xff), Buffer.from(line)]), LINES),
    ],
    [`${name}, as the end of a page`, post(`{"records":[]${long}x`)],
    [`${name}, as the name of a member`, record({ [`A${long}`]: 1 })],
    ...['source', 'id', 'type', 'subject', 'time', 'dataschema', 'datacontenttype', 'data_base64', 'extension'].map(
      (attribute): [string, Request] => [`${name}, as ${attribute}`, record({ [attribute]: `${long}\u0007` })],
    ),
    [`${name}, as a time after a date`, record({ time: `2026-01-31${long}x` })],
    [`${name}, as a key`, { ...post({ [long]: 1, name: long, expiresAt: long }), url: '/v1/keys' }],
    [`${name}, as a media type`, record({ datacontenttype: `a/b;${long}x` })],
  ] satisfies [string, Request][]
})
// All members could be slips of `source`.
const NEAR = Object.fromEntries(Array.from({ length: 10 }, (_, n) => [`sourc${n.toString(36)}e`, 1]))
BODIES.push(
  ['records with names that are nearly right', post(Array(BODY / 150).fill({ ...NEAR, type: 't' }))],
  [
    'members with names that are nearly right',
    post(
      JSON.stringify({ type: 't', ...Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`sou${n}rce`, 1])) }),
    ),
  ],
)

t.test('a body that is refused costs no more than one that is accepted, whatever is in it', async (t) => {
  for (const [name, request] of BODIES) {
    const actual = await cost(async () => {
      const status = await inject(request)
      if (status < 400 || status >= 500) throw new Error(`${name}: ${status}`)
    })
    isCheap(t, name, actual, 'body')
  }
})

t.test('a body that would inflate to 64 MiB is not inflated to look at it', async (t) => {
  const bomb = brotliCompressSync(Buffer.alloc(64 * 1024 * 1024, ' '), {
    params: { [constants.BROTLI_PARAM_QUALITY]: 2 },
  })
  for (const headers of [JSON_TYPE, LINES]) isCheap(t, 'brotli', await cost(() => inject(post(bomb, headers))), 'small')
})

/** Requests with about `HEADER` bytes of headers. */
const HEADERS: [name: string, request: Request][] = [
  ...UNITS.filter((unit) => /^[ -~]+$/.test(unit)),
  'nd',
  'bearer ',
].flatMap((unit) => {
  const long = run(unit, HEADER)
  const name = JSON.stringify(unit)
  const get = (query: string): Request => ({ method: 'GET', url: `/v1/records?${query}` })
  return [
    [`${name}, as Content-Type`, post(RECORD, { 'content-type': `x/${long}x` })],
    [`${name}, as charset`, post(RECORD, { 'content-type': `application/json;${long};charset${long.slice(0, 100)}x` })],
    [`${name}, as Content-Encoding`, post(RECORD, { ...JSON_TYPE, 'content-encoding': `${long}x` })],
    [`${name}, as Authorization`, post(RECORD, { ...JSON_TYPE, authorization: `Bearer ${long}\u00e9` })],
    [`${name}, as a scheme`, post(RECORD, { ...JSON_TYPE, authorization: `${long}\u00e9` })],
    [`${name}, as Idempotency-Key`, post(RECORD, { ...JSON_TYPE, 'idempotency-key': `${long}\u00e9` })],
    [
      `${name}, as a header of an event`,
      post('x', { 'content-type': 'text/plain', 'ce-id': '1', 'ce-source': `${long}\u00e9` }),
    ],
    ...['prefer', 'traceparent', 'expect', 'host'].map((header): [string, Request] => [
      `${name}, as ${header}`,
      post('x', { ...JSON_TYPE, [header]: `${long}x` }),
    ]),
    [`${name}, in the path`, { method: 'GET', url: `/v1/recards/${encodeURIComponent(run(unit, HEADER / 3))}` }],
    [`${name}, as a path`, { method: 'GET', url: `/${run(unit, HEADER).replaceAll(/[^\w./:=-]/g, 'r')}` }],
    [`${name}, as Accept-Encoding`, { ...get('x'), headers: { 'accept-encoding': `${long}x` } }],
    [`${name}, as Accept`, { ...get(''), headers: { accept: `a/${long}x` } }],
    ...['timeFrom', 'cursor', 'limit', 'order', 'data', 'jsonpath', 'fields', 'x'].map(
      (parameter): [string, Request] => [
        `${name}, as the parameter ${parameter}`,
        get(`${parameter}=${encodeURIComponent(run(unit, HEADER / 3))}x`),
      ],
    ),
  ] satisfies [string, Request][]
})
HEADERS.push(
  ['a path of segments that are nearly right', { method: 'GET', url: `/${run('recordz/', HEADER)}` }],
  [
    'parameters with names that are nearly right',
    { method: 'GET', url: `/v1/records?${Array.from({ length: 1500 }, (_, n) => `limi${n}`).join('=1&')}` },
  ],
  ['a parameter that occurs often', { method: 'GET', url: `/v1/records?${run('order=x&', HEADER)}` }],
)

t.test('headers that are refused cost no more than headers that are accepted', async (t) => {
  for (const [name, request] of HEADERS) {
    let status = 0
    const actual = await cost(async () => {
      status = await inject(request)
      if (status >= 500) throw new Error(`${name}: ${status}`)
    })
    isCheap(t, name, actual, 'header')
  }
})

t.test('bytes that are not valid HTTP cost no more than a request that is accepted', async (t) => {
  const port = await listen(app)
  const body = JSON.stringify({ ...RECORD, data: 'x'.repeat(BODY) })
  const headers = {
    Authorization: authorization,
    'Content-Type': 'application/json',
    'Content-Length': `${body.length}`,
  }
  const usual = await cost(() => exchange(port, head('POST', '/v1/records', headers) + body))
  for (const unit of [' ', '\t', 'x', 'Origin: ', '\r\nOrigin:', '\nOrigin:\t ', '\u00ff'])
    for (const start of ['GET /', 'GET / HTTP/1.1\r\nOrigin:', 'GET / HTTP/1.1\r\nHost: x\r\nX: ', '']) {
      const actual = await cost(() =>
        exchange(port, Buffer.from(`${start}${run(unit, BODY)} x y\r\nnot a header\r\n\r\n`, 'latin1')),
      )
      t.ok(
        actual < FACTOR * usual,
        `${JSON.stringify(start + unit)}: ${actual} µs; a request that is accepted takes ${usual} µs`,
      )
    }
})
