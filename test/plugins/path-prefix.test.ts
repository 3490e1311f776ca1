import t from 'tap'
import { loadConfig } from '../../src/config.ts'
import { createApp } from '../helpers/app.ts'
import { runServer } from '../helpers/command.ts'
import { createEmptyDatabase } from '../helpers/postgres.ts'
import { exchange, head, listen } from '../helpers/socket.ts'

const PREFIX = '/api/in-gest'
const { app, key, database } = await createApp(t, { PATH_PREFIX: PREFIX })
const port = await listen(app)
const authorization = `Bearer ${key}`

for (const [name, base] of [
  ['kept', PREFIX],
  ['removed', ''],
] as const) {
  t.test(`with a prefix that the proxy has ${name}, every URL in a response begins with it`, async (t) => {
    const request = (method: string, path: string, headers: Record<string, string> = {}, body = '') => {
      const length = { 'Content-Length': String(body.length), Authorization: authorization, ...headers }
      return exchange(port, head(method, `${base}${path}`, length), body)
    }
    const post = (source: string, id: string) =>
      request('POST', '/v1/records', { 'Content-Type': 'application/json' }, JSON.stringify({ source, type: 't', id }))

    const source = `https://shop.example/${name}`
    const one = await post(source, '1')
    t.match(one, { status: 201, headers: { location: `${PREFIX}/v1/records/${encodeURIComponent(source)}/1` } })
    t.equal((await request('GET', (one.headers.location as string).slice(PREFIX.length))).json.id, '1')
    t.match((await post('.', name)).headers, {
      location: `${PREFIX}/v1/records?source=.&id=${encodeURIComponent(name)}`,
    })

    const page = await request('GET', '/v1/records?limit=1')
    const [, next = ''] = /^<(.*)>; rel="next"$/.exec(page.headers.link as string) ?? []
    t.match(next, new RegExp(`^${PREFIX}/v1/records\\?limit=1&cursor=`))
    t.equal((await request('GET', next.slice(PREFIX.length))).status, 200)

    t.match(await request('GET', '/'), { status: 302, headers: { location: `${PREFIX}/docs/` } })
    t.equal((await request('GET', '/openapi.json')).json.servers[0].url, PREFIX)
    t.equal((await request('GET', '/docs/json')).json.servers[0].url, PREFIX)

    t.match((await request('GET', '/v1/records?x=1')).json, { status: 400, instance: `${PREFIX}/v1/records` })
    t.match((await request('GET', '/records')).json, {
      instance: `${PREFIX}/records`,
      detail: `There is no path ${PREFIX}/records. Did you mean ${PREFIX}/v1/records? ${PREFIX}/docs lists all paths.`,
    })
    t.match((await request('GET', '/v1/records/%zz/1')).json, { status: 400, instance: `${PREFIX}/v1/records/%zz/1` })
    t.match((await request('DELETE', '/v1/keys/x')).json.detail, `GET ${PREFIX}/v1/keys`)
    const advice: [method: string, path: string, detail: string][] = [
      ['DELETE', '/v1/records', `. POST ${PREFIX}/v1/records stores`],
      ['PUT', '/v1/keys/x', `. POST ${PREFIX}/v1/keys creates a key, DELETE ${PREFIX}/v1/keys/{id} revokes`],
      ['GET', '/v1/records/s', `A record is at ${PREFIX}/v1/records/{source}/{id}`],
      ['GET', '/v1/records/a/b/c', `A record is at ${PREFIX}/v1/records/{source}/{id}`],
      ['GET', '/v1/records/s/', `GET ${PREFIX}/v1/records?source=`],
    ]
    for (const [method, path, expected] of advice) {
      const { json } = await request(method, path)
      t.match(json.detail, expected, `${method} ${path}`)
      t.notMatch(json.detail, /(?<![\w-])\/(?:v1|docs)/, 'no path without the prefix')
    }
    t.match(await request('OPTIONS', '/v1/records'), { status: 200, headers: { allow: 'GET, HEAD, OPTIONS, POST' } })
    t.equal((await request('GET', '/healthz')).status, 200)
  })
}

t.test('the prefix alone leads to the page, as / does; a path that only begins like it does not exist', async (t) => {
  t.match(await exchange(port, head('GET', PREFIX)), { status: 302, headers: { location: `${PREFIX}/docs/` } })
  t.equal((await exchange(port, head('GET', `${PREFIX}ion/v1/records`))).json.code, 'route_not_found')
  t.equal((await exchange(port, head('OPTIONS', '*'))).status, 204)
  for (const path of [`${PREFIX};x`, '/%61pi/in-gest/v1/records', '*'])
    t.equal((await exchange(port, head('GET', path))).json.instance, path, 'the path is what the client sent')
  t.equal(
    (await exchange(port, head('GET', `http://sluice${PREFIX}/healthz`))).status,
    200,
    'the whole URL as a target',
  )
})

t.test('headers of a proxy change nothing: Sluice neither needs nor trusts them', async (t) => {
  const get = (headers = {}) =>
    exchange(port, head('GET', '/v1/records?limit=1', { Authorization: authorization, ...headers }))
  const forged = {
    'X-Forwarded-For': '192.0.2.1',
    'X-Forwarded-Host': 'evil.example',
    'X-Forwarded-Proto': 'https',
    'X-Forwarded-Prefix': '/evil',
    Forwarded: 'for=192.0.2.1;host=evil.example;proto=https',
  }
  const stable = ({ headers, text }: Awaited<ReturnType<typeof get>>) => {
    const { date, 'x-request-id': id, ...rest } = headers
    return { rest, text }
  }
  t.strictSame(stable(await get(forged)), stable(await get()))
})

t.test('the command that serve prints has the prefix', async (t) => {
  const { ownerUrl } = await createEmptyDatabase(t)
  const env = { DATABASE_URL: ownerUrl, SLUICE_BOOTSTRAP_KEY: 'a-key-that-somebody-chose', PATH_PREFIX: PREFIX }
  const server = await runServer(t, env, { args: ['--migrate'] })
  server.child.kill('SIGINT')
  t.equal(await server.exit, 0)
  t.match(server.stderr(), new RegExp(`curl -sS ${server.url}${PREFIX}/v1/records `))
})

t.test('a prefix that would be ambiguous or odd is refused at the start', async (t) => {
  // The first part of every path of the API, also of those that a later version adds.
  const paths = Object.keys((app.swagger() as { paths: object }).paths).map((path) => path.replace(/(\/[^/]*).*/, '$1'))
  const own = [...new Set([...paths, '/docs', '/openapi.json'])]
  t.ok(own.includes('/v1') && own.includes('/readyz'))
  const odd = [
    'ingest',
    '/',
    '/ingest/',
    '//a',
    '/a//b',
    '/a b',
    '/a%2Fb',
    '/a?b',
    '/a#b',
    '/é',
    '/..',
    '/a/../b',
    '/.',
    ' /a',
  ]
  for (const text of [...own, '/v1/records', '/docs/x', ...odd])
    t.throws(
      () => loadConfig({ PATH_PREFIX: text }),
      { message: /^PATH_PREFIX is ".*", but must be a path like \/ingest/ },
      text,
    )
  for (const text of ['/ingest', '/v1x', '/api/v1', '/a.b_c~d-e/F9', '/...'])
    t.equal(loadConfig({ PATH_PREFIX: text }).PATH_PREFIX, text)
  t.equal(loadConfig({ PATH_PREFIX: '' }).PATH_PREFIX, undefined)
})

t.test('without the setting, URLs are relative or without a prefix', async (t) => {
  const { app } = await createApp(t, {}, database)
  t.equal((await app.inject('/openapi.json')).json().servers[0].url, '.')
  t.equal((await app.inject('/x')).json().instance, '/x')
  t.equal((await app.inject('/')).headers.location, 'docs/')
})
