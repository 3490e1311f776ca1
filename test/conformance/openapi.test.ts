/**
 * The OpenAPI document as programs use it: generators make typed clients from it, with which the examples of the manuals compile,
 * and the responses of the server are what it says.
 */
import { spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import createClient from 'openapi-fetch'
import t, { type Test } from 'tap'
import { PROBLEMS, Problem, type ProblemCode } from '../../src/problems.ts'
import { createApp } from '../helpers/app.ts'
import { writeClient, writeTypes } from '../helpers/client-generators.ts'

const { app, key, makeKey } = await createApp(t)
const document = (await app.inject({ url: '/openapi.json' })).json()
const root = fileURLToPath(new URL('../..', import.meta.url))

// — the schemas —

// Of all objects, so that a member that is not in the document is found.
const ajv = addFormats.default(new Ajv2020({ strict: false, allErrors: true }))
ajv.addSchema(closed(document) as object, 'openapi')

/** Forbids members without a schema, except in a record, whose extension attributes have any name. */
function closed(value: unknown, name = ''): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map((inner) => closed(inner))
  const object = Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, closed(inner, name)]))
  const isClosed = object.properties !== undefined && object.type === 'object' && !/^Record/.test(name)
  return isClosed ? { ...object, additionalProperties: false } : object
}

const pointerOf = (...path: string[]) =>
  `openapi#/${path.map((part) => encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'))).join('/')}`

function isValid(t: Test, value: unknown, path: string[], name: string): void {
  const validate = ajv.getSchema(pointerOf(...path))
  t.ok(validate?.(value), `${name}: ${ajv.errorsText(validate?.errors)}`)
}

// — live responses —

/** Headers that mean something to a client. If a response has one, the document must have it too. */
const HEADERS =
  /^(?:location|etag|link|retry-after|ratelimit.*|preference-applied|allow|accept-post|webhook-.*|x-request-id|www-authenticate)$/

interface Sent {
  body?: unknown
  type?: string
  headers?: Record<string, string>
  token?: string
}

/** Sends a request, and asserts that the document describes its response. @returns the parsed body */
async function check(t: Test, method: string, route: string, url: string, status: number, sent: Sent = {}) {
  const { body, type = 'application/json', headers = {}, token = key } = sent
  const response = await app.inject({
    method: method as 'GET',
    url,
    headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { 'content-type': type }), ...headers },
    ...(body === undefined ? {} : { payload: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  const name = `${method} ${url} ${status}`
  t.equal(response.statusCode, status, `${name}: ${response.body.slice(0, 200)}`)
  const { responses } = document.paths[route][method.toLowerCase()]
  const described = [String(status), `${String(status)[0]}XX`].find((one) => one in responses) as string
  t.ok(described, `${name}: the document has the status`)
  for (const header of Object.keys(response.headers).filter((one) => HEADERS.test(one))) {
    const known = Object.keys(responses[described].headers ?? {}).map((one) => one.toLowerCase())
    t.ok(known.includes(header), `${name}: the document has the header ${header}`)
  }
  const mediaType = String(response.headers['content-type'] ?? '').split(';')[0] as string
  if (mediaType === '') return t.notOk(responses[described].content, `${name}: no content`)
  const content = /[/+]json$/.test(mediaType) ? response.json() : response.body
  const at = ['paths', route, method.toLowerCase(), 'responses', described, 'content', mediaType, 'schema']
  isValid(t, content, at, name)
  return content
}

const RECORDS = '/v1/records'
const RECORD = '/v1/records/{source}/{id}'
const record = { source: 'shop', type: 'order.placed', id: '1', partitionkey: 'x', data: { total: 12.5 } }
const NDJSON = { type: 'application/x-ndjson' }

t.test('the responses of ingestion are what the document says', async (t) => {
  const limited = (await makeKey({ scopes: ['ingest'], sourcePrefixes: ['shop'], recordsPerSecond: 1 })).token
  const post = (status: number, body: unknown, more: Sent = {}) =>
    check(t, 'POST', RECORDS, RECORDS, status, { body, ...more })
  await post(201, record)
  await post(200, record)
  await post(207, [record, { source: 'shop' }, { ...record, type: 'other' }, 5])
  await post(201, [{ ...record, id: '2' }], { headers: { prefer: 'return=minimal' } })
  const lines = `${JSON.stringify({ ...record, id: '3' })}\n{"source":"shop"}\n{"id":\n`
  await post(207, lines, NDJSON)
  await post(200, JSON.stringify(record), NDJSON)
  await post(422, '{"source":"shop"}\n', NDJSON)
  await post(422, [record, 5], { headers: { prefer: 'handling=strict' } })
  await post(400, '{')
  await post(401, record, { token: 'wrong' })
  await post(403, record, { token: (await makeKey({ scopes: ['read'] })).token })
  await post(403, { ...record, source: 'other' }, { token: limited })
  await post(409, { ...record, type: 'other' })
  await post(413, { ...record, data: 'x'.repeat(2 ** 20) })
  await post(415, record, { type: 'text/csv' })
  await post(422, { source: 'a b' })
  const many = Array.from({ length: 50 }, (_, n) => ({ ...record, id: `many-${n}` }))
  await post(201, many, { token: limited })
  await post(429, many, { token: limited })
  await check(t, 'OPTIONS', RECORDS, RECORDS, 200, { headers: { 'webhook-request-origin': 'example.com' } })
})

t.test('the responses of reading are what the document says', async (t) => {
  const get = (status: number, url: string, more: Sent = {}, route = RECORDS) =>
    check(t, 'GET', route, url, status, more)
  const page = await get(200, `${RECORDS}?limit=1`)
  t.equal(page.records.length, 1)
  await get(200, `${RECORDS}?source=nothing`)
  await get(400, `${RECORDS}?limt=1&order=up`)
  await get(400, `${RECORDS}?cursor=x`)
  await get(401, RECORDS, { token: 'wrong' })
  await get(406, RECORDS, { headers: { accept: 'image/png' } })
  await get(200, '/v1/records/shop/1', {}, RECORD)
  await get(404, '/v1/records/shop/none', {}, RECORD)
})

t.test('the responses of keys and of probes are what the document says', async (t) => {
  const KEYS = '/v1/keys'
  const made = await check(t, 'POST', KEYS, KEYS, 201, {
    body: { name: 'n', scopes: ['read'], recordsPerSecond: null },
  })
  await check(t, 'POST', KEYS, KEYS, 422, { body: { name: '', scopes: ['x'] } })
  await check(t, 'POST', KEYS, KEYS, 415, { body: 'x', type: 'text/plain' })
  await check(t, 'GET', KEYS, KEYS, 200)
  await check(t, 'GET', KEYS, KEYS, 403, { token: made.token })
  await check(t, 'DELETE', `${KEYS}/{id}`, `${KEYS}/${made.id}`, 204)
  await check(t, 'DELETE', `${KEYS}/{id}`, `${KEYS}/none`, 404)
  for (const path of ['/healthz', '/readyz']) await check(t, 'GET', path, path, 200)
})

t.test('the responses of consumers are what the document says', async (t) => {
  const CONSUMERS = '/v1/consumers'
  const CONSUMER = `${CONSUMERS}/{name}`
  const [url, body] = [`${CONSUMERS}/billing`, { offset: '-1' }]
  const create = { 'if-none-match': '*' }
  await check(t, 'PUT', CONSUMER, url, 201, { body, headers: create })
  await check(t, 'PUT', CONSUMER, url, 200, { body: { offset: 'now' }, headers: { 'if-match': '*' } })
  await check(t, 'PUT', CONSUMER, url, 400, { body: { offset: 'x' }, headers: { 'if-match': '*' } })
  await check(t, 'PUT', CONSUMER, url, 412, { body, headers: create })
  await check(t, 'PUT', CONSUMER, url, 415, { body: 'x', type: 'text/plain', headers: create })
  await check(t, 'PUT', CONSUMER, url, 422, { body: {}, headers: create })
  await check(t, 'PUT', CONSUMER, url, 428, { body })
  await check(t, 'GET', CONSUMER, url, 200)
  await check(t, 'GET', CONSUMER, `${CONSUMERS}/none`, 404)
  const { consumers } = await check(t, 'GET', CONSUMERS, CONSUMERS, 200)
  t.equal(consumers.length, 1)
  await check(t, 'DELETE', CONSUMER, url, 204)
  await check(t, 'DELETE', CONSUMER, url, 404)
})

t.test('the document describes the problem of every code', async (t) => {
  for (const code of Object.keys(PROBLEMS) as ProblemCode[]) {
    const problem = new Problem(code, 'Why.', { errors: [{ index: 0, pointer: '/a', code, detail: 'Why.' }] })
    isValid(t, JSON.parse(JSON.stringify(problem.toDocument('/', 'x'))), ['components', 'schemas', 'Problem'], code)
  }
  t.same(document.components.schemas.ProblemCode.enum, Object.keys(PROBLEMS))
})

// — examples —

t.test('every example matches its schema, and every example of a body is accepted', async (t) => {
  let count = 0
  for (const [name, { examples = [] }] of Object.entries(document.components.schemas as Record<string, Json>))
    for (const example of examples) isValid(t, example, ['components', 'schemas', name], `${name}: example`)
  for (const [route, methods] of Object.entries(document.paths as Record<string, Record<string, Json>>)) {
    const content = Object.entries((methods.post?.requestBody?.content ?? {}) as Record<string, Json>)
    for (const [type, { schema, example, examples }] of content) {
      // What Swagger UI shows: the first example, or else that of the schema.
      const shown = [example, ...Object.values((examples ?? {}) as Json).map((one) => one.value)].filter(Boolean)
      const [, component] = /(\w+)$/.exec(schema.$ref ?? '') ?? []
      if (component !== undefined) shown.push(document.components.schemas[component].examples[0])
      t.ok(shown.length > 0, `${route} ${type} has an example`)
      for (const body of shown) {
        count++
        isValid(t, body, ['paths', route, 'post', 'requestBody', 'content', type, 'schema'], `${route} ${type}`)
        const { statusCode } = await app.inject({
          method: 'POST',
          url: route,
          headers: { authorization: `Bearer ${key}`, 'content-type': type },
          payload: typeof body === 'string' ? body : JSON.stringify(body),
        })
        t.ok(statusCode === 200 || statusCode === 201, `${route} ${type}: ${statusCode}`)
      }
    }
  }
  t.ok(count >= 8, `${count} examples`)
})

// — clients —

/** The JSON of each `curl … -d` in a manual. */
async function bodiesIn(manual: string): Promise<string[]> {
  const text = await readFile(join(root, manual), 'utf8')
  return [...text.matchAll(/^ *-d '([[{].*[\]}])'$/gm)].map(([, body]) => body as string)
}

const manuals = (await Promise.all(['README.md', 'src/README.md'].map(bodiesIn))).flat()
const keyBodies = manuals.filter((body) => 'scopes' in JSON.parse(body))
const recordBodies = manuals.filter((body) => !keyBodies.includes(body))

/** What both clients must allow, and with @ts-expect-error what they must not. */
const reading = (problemCode: string) => `
if (error) {
  const code: ${problemCode} = error.code
  if (error.code === 'conflict' && error.outcome === 'not_written') console.log(code, error.errors?.[0]?.pointer)
  // @ts-expect-error no such code
  if (error.code === 'no_such_code') console.log()
}
const status: 'created' | 'duplicate' | 'conflict' | 'rejected' | undefined = stored?.results?.[0]?.status
const total: number | undefined = stored?.counts.created
const [one, receivedAt]: (string | undefined)[] = [found?.source, found?.receivedAt]
const next: string | null | undefined = page?.next
for (const record of page?.records ?? []) console.log(record.cursor.length, record.data, record.partitionkey)
// @ts-expect-error a page has no such member
console.log(page?.rows)
console.log(status, total, one, receivedAt, next)
`

const OPENAPI_FETCH = `
import createClient from 'openapi-fetch'
import type { components, paths } from './openapi-typescript.ts'

const client = createClient<paths>({ baseUrl: 'http://127.0.0.1:3000', headers: { Authorization: 'Bearer key' } })
${recordBodies.map((body) => `await client.POST('/v1/records', { body: ${body} })`).join('\n')}
${keyBodies.map((body) => `await client.POST('/v1/keys', { body: ${body} })`).join('\n')}
// @ts-expect-error a source is a text
await client.POST('/v1/records', { body: { source: 5, type: 't' } })
const { data: stored, error } = await client.POST('/v1/records', { body: [${recordBodies[0]}] })
const { data: found } = await client.GET('/v1/records/{source}/{id}', { params: { path: { source: 'shop', id: '1' } } })
const { data: page } = await client.GET('/v1/records', { params: { query: { limit: 10, order: 'asc' } } })
${reading("components['schemas']['ProblemCode']")}
const { data: options } = await client.OPTIONS('/v1/records')
console.log(options?.methods[0])
`

const HEY_API = `
import { createKey, getRecord, ingest, listRecords, type ProblemCode } from './hey-api/index.ts'
import { client } from './hey-api/client.gen.ts'

client.setConfig({ baseUrl: 'http://127.0.0.1:3000', auth: 'key' })
${recordBodies.map((body) => `await ingest({ body: ${body} })`).join('\n')}
${keyBodies.map((body) => `await createKey({ body: ${body} })`).join('\n')}
// @ts-expect-error a source is a text
await ingest({ body: { source: 5, type: 't' } })
const { data: stored, error } = await ingest({ body: [${recordBodies[0]}] })
const { data: found } = await getRecord({ path: { source: 'shop', id: '1' } })
const { data: page } = await listRecords({ query: { limit: 10, order: 'asc' } })
${reading('ProblemCode')}
`

// openapi-typescript also lints the document, and fails if it is not valid OpenAPI.
t.test("the manuals' examples compile with clients that openapi-typescript and hey-api generate", async (t) => {
  t.ok(recordBodies.length >= 3 && keyBodies.length >= 1, 'the manuals have examples')
  const compilerOptions = {
    strict: true,
    noUncheckedIndexedAccess: true,
    noEmit: true,
    target: 'es2023',
    lib: ['es2023', 'dom', 'dom.iterable'],
    module: 'nodenext',
    types: [],
    allowImportingTsExtensions: true,
  }
  const folder = t.testdir({
    'openapi-typescript.ts': await writeTypes(document),
    'openapi-fetch.use.ts': OPENAPI_FETCH,
    'hey-api.use.ts': HEY_API,
    'package.json': '{ "type": "module" }',
    'tsconfig.json': JSON.stringify({ compilerOptions }),
  })
  await writeClient(document, join(folder, 'hey-api'))
  const compile = [join(root, 'node_modules/.bin/tsc'), '-p', folder]
  // The compiler does not start with the hooks that tap adds to every process.
  const { stdout, stderr, status } = spawnSync('env', ['-u', 'NODE_OPTIONS', ...compile], { encoding: 'utf8' })
  t.equal(stdout, '')
  t.equal(status, 0, stderr)
})

t.test('a client of openapi-fetch stores and reads a record', async (t) => {
  const baseUrl = await app.listen({ port: 0, host: '127.0.0.1' })
  const client = createClient<Json>({ baseUrl, headers: { Authorization: `Bearer ${key}` } })
  const body = { source: 'a/b c', type: 't', id: '100%', data: { total: 12.5 } }
  const { data } = await client.POST('/v1/records' as never, { body: { ...body, source: 'a/b' } } as never)
  t.match(data, { counts: { created: 1 } })
  const path = { source: 'a/b', id: '100%' }
  const found = await client.GET('/v1/records/{source}/{id}' as never, { params: { path } } as never)
  t.match(found.data, { ...body, source: 'a/b' })
  const { error } = await client.POST('/v1/records' as never, { body } as never)
  t.match(error, { code: 'invalid_value', errors: [{ pointer: '/source' }] })
})

// biome-ignore lint/suspicious/noExplicitAny: parsed JSON
type Json = Record<string, any>
