import t from 'tap'
import type { ProblemCode } from '../../src/problems.ts'
import { CREATE, type Headers, match, openConsumers } from '../helpers/consumers-api.ts'
import { isProblem } from '../helpers/problem.ts'
import { exchange, head, listen } from '../helpers/socket.ts'

const server = await openConsumers(t)
const { app, call, put, store } = server
const first = await store('1')

const WRONG_HEADERS: [Headers, string, RegExp][] = [
  [match('6a'), 'if-match', /in double quotes/],
  [match(''), 'if-match', /in double quotes/],
  [match(','), 'if-match', /in double quotes/],
  [match('"a" "b"'), 'if-match', /in double quotes/],
  [match('*, "a"'), 'if-match', /in double quotes/],
  [match('w/"a"'), 'if-match', /in double quotes/],
  [{ 'if-none-match': '"a"' }, 'if-none-match', /must be \*/],
  [{ ...CREATE, ...match('*') }, 'if-none-match', /not both/],
]
for (const [headers, pointer, detail] of WRONG_HEADERS) {
  t.test(`the condition ${JSON.stringify(headers)} is refused`, async (t) => {
    const errors = [{ pointer, code: 'invalid_header', detail }]
    isProblem(t, await put('wrong', first, headers), 'invalid_header', { errors })
  })
}

const WRONG_NAMES = ['a%20b', 'a%2Fb', '%C3%BC', '%00', 'x'.repeat(129), 'a:b', 'a%0A']
t.test('other names are refused', async (t) => {
  for (const name of WRONG_NAMES) {
    for (const refused of [await put(name, '-1'), await call('GET', `/${name}`), await call('DELETE', `/${name}`)])
      isProblem(t, refused, 'invalid_request', { name, errors: [{ pointer: 'name', detail: /1 to 128 letters/ }] })
  }
  // Clients remove these from a path, so nobody could delete such a consumer.
  for (const name of ['.', '..']) {
    const sent = head('GET', `/v1/consumers/${name}`, { Authorization: `Bearer ${server.key}` })
    isProblem(t, await exchange(await listen(app), sent), 'invalid_request', { name })
  }
})

const WRONG_BODIES: [unknown, ProblemCode, string, ProblemCode, RegExp][] = [
  [{}, 'invalid_body', '/offset', 'required', /expected a text: an offset of the feed, "-1" for the start, or "now"/],
  [{ offset: -1 }, 'invalid_body', '/offset', 'invalid_value', /"-1" for the start/],
  [{ offset: null }, 'invalid_body', '/offset', 'invalid_value', /a text/],
  [{ offset: '-1', cursor: 'x' }, 'invalid_body', '/cursor', 'unknown_field', /Did you mean offset\?/],
  [[], 'invalid_body', '', 'invalid_value', /an object such as \{"offset":"-1"\}/],
  ['{"offset":"-1","\\u006fffset":"now"}', 'invalid_body', '/offset', 'repeated_field', /twice/],
  [{ offset: '' }, 'invalid_offset', '/offset', 'invalid_offset', /is not an offset of this service/],
  [{ offset: 'NOW' }, 'invalid_offset', '/offset', 'invalid_offset', /-1 for the start, or now/],
  [{ offset: `${first.slice(0, -1)}x` }, 'invalid_offset', '/offset', 'invalid_offset', /was damaged/],
  [{ offset: 'a\0b' }, 'invalid_offset', '/offset', 'invalid_offset', /was damaged/],
]
for (const [body, code, pointer, fault, detail] of WRONG_BODIES) {
  t.test(`the body ${JSON.stringify(body)} is refused with a location`, async (t) => {
    isProblem(t, await call('PUT', '/a', CREATE, body), code, { errors: [{ pointer, code: fault, detail }] })
    t.equal((await call('GET', '/a')).status, 404)
  })
}

t.test('a body that is not JSON, is too large or has another media type is refused', async (t) => {
  isProblem(t, await call('PUT', '/a', CREATE, '{'), 'invalid_json')
  const empty = await call('PUT', '/a', CREATE, '')
  isProblem(t, empty, 'empty_body')
  t.match(empty.json.detail, /with the offset/)
  isProblem(t, await call('PUT', '/a', CREATE, ' '.repeat(5000)), 'body_too_large')
  isProblem(t, await call('PUT', '/a', { ...CREATE, 'content-type': 'text/plain' }, '-1'), 'unsupported_media_type')
})
