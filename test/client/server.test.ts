import type { ServerResponse } from 'node:http'
import t from 'tap'
import { checkReachable, NotSluice, Refused, readJson, send, TryAgain } from '../../src/client/server.ts'
import { sendCut, sendProblem, startStub } from '../helpers/proxy.ts'

t.test('if no server responds, the advice is for a server on this machine or on another one', async (t) => {
  // fetch refuses port 1 before it looks for the host.
  for (const [host, advice] of [
    ['127.0.0.1', /Run npm start in another terminal, or specify/],
    ['localhost', /Run npm start/],
    ['[::1]', /Run npm start/],
    ['sluice.example.com', /\. Start it, or specify another server with --url$/],
    ['localhost.example.com', /\. Start it/],
  ] as const)
    await t.rejects(checkReachable(`http://${host}:1`), { message: advice }, host)
})

const PROBLEM = { 'content-type': 'application/problem+json' }

t.test('a failure says whether it comes from Sluice, and whether the request can be repeated', async (t) => {
  const cases: [
    respond: (response: ServerResponse) => unknown,
    failure: typeof TryAgain | typeof Refused | typeof NotSluice,
    string,
  ][] = [
    [(response) => sendProblem(response, 503, { detail: 'Away.', retryable: true }), TryAgain, 'Away.'],
    [(response) => sendProblem(response, 403, { detail: 'No.', retryable: false }), Refused, 'No.'],
    [(response) => sendCut(response, 403, PROBLEM, '{"detail":"No.","retr'), TryAgain, 'is not complete'],
    [(response) => response.writeHead(502).end('Bad Gateway'), TryAgain, 'answered 502'],
    [(response) => response.writeHead(429, PROBLEM).end('{"title":"Slow down"}'), TryAgain, 'answered 429'],
    [(response) => response.writeHead(403, PROBLEM).end('{"title":"No"}'), NotSluice, 'answered 403, which is not'],
    [(response) => response.writeHead(403, PROBLEM).end('null'), NotSluice, 'answered 403, which is not'],
    [(response) => response.writeHead(500).end('x'), NotSluice, 'answered 500, which is not'],
    [(response) => response.writeHead(302, { location: '/login' }).end(), NotSluice, 'redirects to /login: specify'],
  ]
  for (const [respond, failure, message] of cases) {
    const url = await startStub(t, (_request, response) => respond(response))
    const error = await send({ url, token: 'k' }, '/v1/records', {}).catch((error) => error)
    t.type(error, failure, message)
    t.match(error.message, message)
  }
})

t.test('JSON that is cut can be requested again, and another media type is not from Sluice', async (t) => {
  const read = (text: string, type?: string) => () =>
    readJson(new Response(null, { headers: type === undefined ? {} : { 'content-type': type } }), text, 'http://a')
  t.same(read('{"a":1}', 'application/json; charset=utf-8')(), { a: 1 })
  for (const text of ['', '{"a":', '[1,'])
    t.throws(read(text, 'application/json'), {
      constructor: TryAgain,
      message: 'The response of http://a is not complete',
    })
  t.throws(read('<html>', 'text/html'), {
    constructor: NotSluice,
    message: /^http:\/\/a answered 200 text\/html, which/,
  })
  t.throws(read('<html>'), { constructor: NotSluice, message: /^http:\/\/a answered 200, which/ })
})
