import { connect } from 'node:net'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { loadConfig } from '../../src/config.ts'
import openapi from '../../src/plugins/openapi.ts'
import responseMemory from '../../src/plugins/response-memory.ts'
import { PROBLEMS } from '../../src/problems.ts'
import { createApp } from '../helpers/app.ts'
import { head, listen } from '../helpers/socket.ts'

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

t.test('other programs know every format in the document, and every choice is an enum', async (t) => {
  for (const [path, { format, anyOf }] of objects(document)) {
    if (typeof format === 'string') t.match(format, /^(?:uri|uri-reference|date-time)$/, path)
    if (Array.isArray(anyOf))
      t.notOk(
        anyOf.every((one) => one.const ?? one.enum),
        path,
      )
  }
  const { properties } = document.components.schemas.Result
  t.same(properties.status.enum, ['created', 'duplicate', 'conflict', 'rejected'])
  t.match(properties.status.description, '`duplicate`: Already stored with the same content')
})

t.test('the document has exactly the public routes with their methods, and all of them exist', async (t) => {
  const described = Object.entries(document.paths as Record<string, object>).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method} ${path}`),
  )
  t.same(described.sort(), [
    'delete /v1/consumers/{name}',
    'delete /v1/keys/{id}',
    'get /healthz',
    'get /readyz',
    'get /v1/consumers',
    'get /v1/consumers/{name}',
    'get /v1/feed',
    'get /v1/keys',
    'get /v1/records',
    'get /v1/records/{source}/{id}',
    'get /v1/stats',
    'get /v1/status',
    'options /v1/records',
    'post /v1/keys',
    'post /v1/records',
    'put /v1/consumers/{name}',
  ])
  for (const route of described) {
    const [method = '', path = ''] = route.split(' ')
    const url = path.replaceAll(/\{(\w+)\}/g, ':$1')
    t.ok(app.hasRoute({ method: method.toUpperCase() as 'GET', url }), route)
  }
})

t.test(
  'every operation has an id, a summary and responses, and all under /v1 need a key except for OPTIONS',
  async (t) => {
    for (const [path, methods] of Object.entries(document.paths as Record<string, Record<string, Operation>>)) {
      for (const [method, operation] of Object.entries(methods)) {
        t.match(operation.summary, /\S/, `${method} ${path}`)
        t.match(operation.operationId, /^[a-z]+(?:[A-Z][a-z]+)*$/, `${method} ${path}`)
        for (const response of Object.values(operation.responses))
          t.not(response.description, 'Default Response', `${method} ${path}`)
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
  },
)

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
  t.same(Object.keys(post.responses), ['200', '201', '207', '4XX', '5XX'])
  for (const range of ['4XX', '5XX']) t.ok('application/problem+json' in post.responses[range].content)
  for (const code of Object.keys(PROBLEMS)) t.match(document.components.schemas.Problem.description, `\`${code}\``)
})

// With more media types in the list, the type of a page in openapi-fetch was `Page | string | unknown[]`.
t.test(
  'lists and single records have one media type in the document, and name the others in their description',
  async (t) => {
    const { get } = document.paths['/v1/records']
    t.same(Object.keys(get.responses['200'].content), ['application/json'])
    for (const type of ['application/x-ndjson', 'text/csv', 'application/cloudevents-batch+json'])
      t.match(get.description, type)
    const one = document.paths['/v1/records/{source}/{id}'].get
    t.same(Object.keys(one.responses['200'].content), ['application/json'])
    t.match(one.description, 'application/cloudevents+json')
  },
)

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

// Below a path prefix that a proxy removes, the page must not ask for anything outside of it.
t.test('all URLs are relative, and lead to a page, the document and the server below a path prefix', async (t) => {
  const follow = (url: string, from: string) => new URL(url, `http://proxy/api${from}`).pathname
  const home = await app.inject({ url: '/' })
  t.equal(home.statusCode, 302)
  t.equal(follow(String(home.headers.location), '/'), '/api/docs/')
  for (const page of ['/docs', '/docs/']) {
    const { body } = await app.inject({ url: page })
    for (const [, url = ''] of body.matchAll(/(?:src|href)="([^"]+)"/g))
      t.match(follow(url, page), /^\/api\/docs\/static\//, `${page}: ${url}`)
  }
  for (const url of ['/openapi.json', '/docs/json']) {
    const { servers } = (await app.inject({ url })).json()
    t.equal(follow(servers[0].url, url), '/api/', url)
  }
})

t.test('/docs is a page that loads nothing from other hosts', async (t) => {
  const html = await app.inject({ url: '/docs' })
  t.equal(html.statusCode, 200)
  t.match(html.headers['content-type'], 'text/html')
  const parts = [...html.body.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, url]) => url as string)
  t.ok(parts.length >= 4)
  for (const part of parts) {
    t.notMatch(part, /^(?:https?:)?\/\//, part)
    const { pathname } = new URL(part, 'http://sluice/docs')
    const served = await app.inject({ url: pathname })
    t.equal(served.statusCode, 200, pathname)
    // More specific than ".swagger-ui header" of swagger-ui.css, which shows the bar.
    if (pathname.endsWith('theme.css')) t.match(served.body, '.swagger-ui .topbar { display: none }')
    if (pathname.endsWith('initializer.js')) t.match(served.body, '"validatorUrl":null', 'no validator is called')
  }
  t.match(html.body, '<title>Sluice</title>')
  const policy = String(html.headers['content-security-policy'])
  t.match(policy, /default-src 'self'/)
  t.notMatch(policy, /\/\/|\*|https:|swagger/, 'no other host is allowed')
  t.notMatch(policy, 'upgrade-insecure-requests', 'the page works over http')
})

// No key is needed, and each stalled reader holds the buffers of a file of more than a megabyte.
t.test('at most 64 clients can read public files at once, and the next one can when they have finished', async (t) => {
  const { app, finish } = await openReaders(t)
  const readers = Array.from({ length: 64 }, () => app.inject({ url: '/' }))
  await app.ready()
  const refused = ['/', '/docs'].map((url) => app.inject({ url }))
  for (const { body } of await Promise.all(refused)) t.match(body, /Too many clients are reading/)
  finish()
  for (const { statusCode } of await Promise.all(readers)) t.equal(statusCode, 200)
  t.equal((await app.inject({ url: '/' })).statusCode, 200)
})

// Each reader that disconnected was counted down twice.
t.test('clients that disconnect do not raise the limit of readers', async (t) => {
  const { app, reading, finish } = await openReaders(t)
  const closed = Promise.withResolvers<void>()
  app.server.once('connection', (socket) => socket.once('close', () => setImmediate(closed.resolve)))
  const socket = connect(await listen(app as never), '127.0.0.1')
  socket.write(head('GET', '/'))
  await reading
  socket.destroy()
  await closed.promise
  // `then` starts the request at once.
  const readers = Array.from({ length: 64 }, () => app.inject({ url: '/' }).then(({ statusCode }) => statusCode))
  t.match((await app.inject({ url: '/docs' })).body, /Too many clients are reading/)
  finish()
  t.same(new Set(await Promise.all(readers)), new Set([200]))
})

/** A server whose only route, beside the files, waits for `finish`. `reading` resolves when its first request has begun. */
async function openReaders(t: Test) {
  const app = Fastify()
  t.teardown(() => app.close())
  app.decorate('config', loadConfig({ DATABASE_URL: 'postgres://x/y' }))
  await app.register(responseMemory)
  await app.register(openapi)
  const [began, finished] = [Promise.withResolvers<void>(), Promise.withResolvers<string>()]
  app.get('/', { onRequest: app.limitReaders }, () => {
    began.resolve()
    return finished.promise
  })
  return { app, reading: began.promise, finish: () => finished.resolve('') }
}

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
  operationId: string
  responses: Record<string, { description: string }>
  security?: object[]
  parameters?: { in: string; name: string; required: boolean }[]
}
