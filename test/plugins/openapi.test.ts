import Fastify from 'fastify'
import t from 'tap'
import { loadConfig } from '../../src/config.ts'
import openapi from '../../src/plugins/openapi.ts'
import responseMemory from '../../src/plugins/response-memory.ts'
import { PROBLEMS } from '../../src/problems.ts'
import { createApp } from '../helpers/app.ts'

const { app, post } = await createApp(t)
const answer = await app.inject({ url: '/openapi.json' })
const document = answer.json()

/** Every object of the document, with its path. */
function* objects(value: unknown, path = ''): Generator<[string, Record<string, unknown>]> {
  if (typeof value !== 'object' || value === null) return
  if (!Array.isArray(value)) yield [path, value as Record<string, unknown>]
  for (const [name, inner] of Object.entries(value)) yield* objects(inner, `${path}/${name}`)
}

t.test('the document is OpenAPI 3.1, served as JSON without a key', async (t) => {
  t.equal(answer.statusCode, 200)
  t.match(answer.headers['content-type'], 'application/json')
  t.match(document.openapi, /^3\.1\.\d+$/)
  t.match(document.info, { title: 'Sluice', version: /^\d+\.\d+\.\d+/, license: { name: 'MIT' } })
})

t.test('every reference resolves to a schema', async (t) => {
  let count = 0
  for (const [path, object] of objects(document)) {
    if (typeof object.$ref !== 'string') continue
    count++
    t.match(object.$ref, /^#\/components\/schemas\/\w+$/, path)
    t.type(document.components.schemas[object.$ref.split('/').at(-1) as string], 'object', object.$ref)
  }
  t.ok(count > 10, `${count} references`)
})

t.test('the document has exactly the public routes with their methods, and all of them exist', async (t) => {
  const described = Object.entries(document.paths as Record<string, object>).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method} ${path}`),
  )
  t.same(described.sort(), [
    'delete /v1/keys/{id}',
    'get /healthz',
    'get /readyz',
    'get /v1/keys',
    'get /v1/records',
    'get /v1/records/{source}/{id}',
    'options /v1/records',
    'post /v1/keys',
    'post /v1/records',
  ])
  for (const route of described) {
    const [method = '', path = ''] = route.split(' ')
    const url = path.replaceAll(/\{(\w+)\}/g, ':$1')
    t.ok(app.hasRoute({ method: method.toUpperCase() as 'GET', url }), route)
  }
})

t.test('every operation has a summary and responses, and all under /v1 need a key except for OPTIONS', async (t) => {
  for (const [path, methods] of Object.entries(document.paths as Record<string, Record<string, Operation>>)) {
    for (const [method, operation] of Object.entries(methods)) {
      t.match(operation.summary, /\S/, `${method} ${path}`)
      t.ok(Object.keys(operation.responses).length > 0)
      const open = !path.startsWith('/v1') || method === 'options'
      t.same(operation.security, open ? undefined : [{ key: [] }], `${method} ${path}: security`)
      const inPath = operation.parameters?.filter((parameter) => parameter.in === 'path') ?? []
      t.same(
        inPath.map(({ name, required }) => [name, required]),
        [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => [name, true]),
        `${method} ${path}: path parameters`,
      )
    }
  }
  t.match(document.components.securitySchemes, { key: { type: 'http', scheme: 'bearer' } })
})

t.test('the document has the media types, the statuses and all error codes of ingestion', async (t) => {
  const { post } = document.paths['/v1/records']
  t.same(Object.keys(post.requestBody.content), [
    'application/json',
    'application/x-ndjson',
    'application/ndjson',
    'application/jsonl',
    'application/cloudevents+json',
    'application/cloudevents-batch+json',
  ])
  t.same(Object.keys(post.responses), ['200', '201', '207', 'default'])
  t.ok('application/problem+json' in post.responses.default.content)
  for (const code of Object.keys(PROBLEMS)) t.match(document.components.schemas.Problem.description, `\`${code}\``)
})

t.test('the document has the media types of lists and of single records', async (t) => {
  const { get } = document.paths['/v1/records']
  t.same(Object.keys(get.responses['200'].content), [
    'application/json',
    'application/x-ndjson',
    'application/ndjson',
    'application/jsonl',
    'text/csv',
    'application/cloudevents-batch+json',
  ])
  const one = document.paths['/v1/records/{source}/{id}'].get
  t.same(Object.keys(one.responses['200'].content), ['application/json', 'application/cloudevents+json'])
})

t.test('the document has the statuses and the media types of probes', async (t) => {
  const statuses = (path: string) => Object.keys(document.paths[path].get.responses)
  t.same(statuses('/healthz'), ['200'])
  t.same(statuses('/readyz'), ['200', '503'])
  for (const path of ['/healthz', '/readyz']) {
    const answer = await app.inject({ url: path })
    const { content } = document.paths[path].get.responses[answer.statusCode]
    t.match(answer.headers['content-type'], Object.keys(content)[0], path)
  }
})

t.test('/docs is a page that loads nothing from other hosts', async (t) => {
  const page = await app.inject({ url: '/docs' })
  const html = page.statusCode === 302 ? await app.inject({ url: String(page.headers.location) }) : page
  t.equal(html.statusCode, 200)
  t.match(html.headers['content-type'], 'text/html')
  const parts = [...html.body.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, url]) => url as string)
  t.ok(parts.length >= 4)
  for (const part of parts) {
    t.notMatch(part, /^(?:https?:)?\/\//, part)
    const { pathname } = new URL(part, 'http://sluice/docs/')
    const served = await app.inject({ url: pathname })
    t.equal(served.statusCode, 200, pathname)
    // More specific than ".swagger-ui header" of swagger-ui.css, which shows the bar.
    if (pathname.endsWith('theme.css')) t.match(served.body, '.swagger-ui .topbar { display: none }')
    if (pathname.endsWith('initializer.js')) t.match(served.body, '"validatorUrl":null', 'no validator is called')
  }
  t.match(html.body, '<title>Sluice</title>')
  const policy = String(html.headers['content-security-policy'])
  t.match(policy, /default-src 'self'/)
  t.notMatch(policy, /\/\/|\*/, 'no other host is allowed')
})

// No key is needed, and each stalled reader holds the buffers of a file of more than a megabyte.
t.test('at most 64 clients can read public files at once, and the next one can when they have finished', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.decorate('config', loadConfig({ DATABASE_URL: 'postgres://x/y' }))
  await app.register(responseMemory)
  await app.register(openapi)
  const released = Promise.withResolvers<string>()
  app.get('/', { onRequest: app.limitReaders }, () => released.promise)
  const readers = Array.from({ length: 64 }, () => app.inject({ url: '/' }))
  await app.ready()
  const refused = ['/', '/docs'].map((url) => app.inject({ url }))
  for (const { body } of await Promise.all(refused)) t.match(body, /Too many clients are reading/)
  released.resolve('')
  for (const { statusCode } of await Promise.all(readers)) t.equal(statusCode, 200)
  t.equal((await app.inject({ url: '/' })).statusCode, 200)
})

t.test('a record made of the examples in the document is stored', async (t) => {
  const { properties, required } = document.components.schemas.RecordInput as {
    properties: Record<string, { examples?: unknown[] }>
    required: string[]
  }
  const examples = Object.entries(properties).filter(([, { examples }]) => examples !== undefined)
  const record = Object.fromEntries(examples.map(([name, { examples }]) => [name, examples?.[0]]))
  t.ok(required.every((name) => name in record))
  t.equal((await post(record)).status, 201)
})

interface Operation {
  summary: string
  responses: object
  security?: object[]
  parameters?: { in: string; name: string; required: boolean }[]
}
