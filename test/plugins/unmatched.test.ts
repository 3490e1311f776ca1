import { METHODS } from 'node:http'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { isProblem } from '../helpers/problem.ts'
import { exchange, head, listen } from '../helpers/socket.ts'

const { app, get } = await createApp(t)
const port = await listen(app)
const metricsPort = await listen(app.metricsServer)

const JSON_TYPE = { 'Content-Type': 'application/json' }

/** A path of each route, and the methods that it has. */
const PATHS = [
  ['/v1/records', 'GET, HEAD, OPTIONS, POST'],
  ['/v1/records/s/1', 'GET, HEAD, OPTIONS'],
  ['/v1/consumers', 'GET, HEAD, OPTIONS'],
  ['/v1/consumers/a', 'DELETE, GET, HEAD, OPTIONS, PUT'],
  ['/v1/keys', 'GET, HEAD, OPTIONS, POST'],
  ['/v1/keys/1', 'DELETE, OPTIONS'],
  ['/healthz', 'GET, HEAD, OPTIONS'],
  ['/readyz', 'GET, HEAD, OPTIONS'],
  ['/openapi.json', 'GET, HEAD, OPTIONS'],
  ['/docs', 'GET, HEAD, OPTIONS'],
  ['/docs/', 'GET, HEAD, OPTIONS'],
  ['/docs/static/swagger-ui.css', 'GET, HEAD, OPTIONS'],
] as const

t.test('any other method on the path of a route is 405 and names the allowed ones, without a key', async (t) => {
  for (const [path, allow] of PATHS) {
    // What follows a CONNECT is not HTTP. The response to HEAD has no document.
    const others = METHODS.filter((method) => !['CONNECT', 'HEAD', ...allow.split(', ')].includes(method))
    for (const method of others) {
      const answer = await exchange(port, head(method, path, { ...JSON_TYPE, 'Content-Length': '1' }))
      isProblem(t, answer, 'method_not_allowed', { name: `${method} ${path}` })
      t.equal(answer.headers.allow, allow, `${method} ${path}`)
    }
  }
  const { statusCode, headers, body } = await app.inject({ method: 'HEAD', url: '/v1/keys/1' })
  t.match({ statusCode, headers, body }, { statusCode: 405, headers: { allow: 'DELETE, OPTIONS' }, body: '' })
  const scrape = await exchange(metricsPort, head('DELETE', '/metrics'))
  t.match(scrape, { status: 405, headers: { allow: 'GET, HEAD, OPTIONS' }, json: { code: 'method_not_allowed' } })
})

t.test('OPTIONS lists the methods of a path, and of the whole server', async (t) => {
  for (const [path, allow] of [...PATHS, ['*', 'DELETE, GET, HEAD, OPTIONS, POST, PUT']] as const) {
    const answer = await exchange(port, head('OPTIONS', path))
    t.ok(answer.status === 200 || answer.status === 204, `${path}: ${answer.status}`)
    t.equal(answer.headers.allow, allow, path)
  }
  isProblem(t, await exchange(port, head('OPTIONS', '/nothing')), 'route_not_found')
})

t.test('a path that does not exist is route_not_found and names the nearest one', async (t) => {
  const nearestPaths: [string, string][] = [
    ['/v1', '/v1/records'],
    ['/v1/', '/v1/records'],
    ['/records', '/v1/records'],
    ['/api/v1/records', '/v1/records'],
    ['/v2/records', '/v1/records'],
    ['/V1/Records', '/v1/records'],
    ['/v1/record', '/v1/records'],
    ['/v1/records/', '/v1/records'],
    ['//v1/records', '/v1/records'],
    ['/records/s/1', '/v1/records'],
    ['/key', '/v1/keys'],
    ['/keys/1', '/v1/keys'],
    ['/health', '/healthz'],
    ['/ready', '/readyz'],
    ['/nothing', '/v1/records'],
  ]
  for (const [path, nearest] of nearestPaths) {
    const answer = await exchange(port, head('GET', path))
    isProblem(t, answer, 'route_not_found', { name: path })
    t.match(answer.json.detail, new RegExp(`Did you mean ${nearest}\\?.*/docs`), path)
  }
  const onMetrics = await exchange(metricsPort, head('GET', '/v1/records'))
  isProblem(t, onMetrics, 'route_not_found')
  t.match(onMetrics.json.detail, /Only \/metrics/)
})

t.test('what is sent to a path that does not exist makes no difference', async (t) => {
  const requests: [method: string, type: string, body: string][] = [
    ['POST', 'text/xml', '<a/>'],
    ['POST', 'application/json', '{"secret'],
    ['POST', 'not a type', 'x'],
    ['PROPFIND', 'application/json', '{}'],
    ['DELETE', 'application/json', ''],
  ]
  for (const [method, type, body] of requests) {
    const headers = { 'Content-Type': type, 'Content-Length': String(body.length) }
    isProblem(t, await exchange(port, `${head(method, '/nothing', headers)}${body}`), 'route_not_found')
  }
})

t.test('a record that is not stored is not_found, which is another code', async (t) => {
  isProblem(t, await get('/v1/records/s/nothing'), 'not_found')
})
