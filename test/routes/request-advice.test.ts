import type { InjectOptions } from 'fastify'
import t from 'tap'
import type { ProblemCode } from '../../src/problems.ts'
import { createApp } from '../helpers/app.ts'
import { isProblem } from '../helpers/problem.ts'

const { app, key, makeKey } = await createApp(t)
const RECORD = { source: 'shop', type: 'order.placed' }
const { id: limitedId, token: limited } = await makeKey({
  scopes: ['ingest'],
  sourcePrefixes: Array.from({ length: 30 }, (_, n) => `till${n}/`),
})
const { token: slow } = await makeKey({ recordsPerSecond: 1 })
const { token: expired } = await makeKey({ expiresAt: new Date(Date.now() - 1) })

async function call(options: InjectOptions) {
  const { statusCode: status, headers, body } = await app.inject(options)
  return { status, headers, text: body, json: JSON.parse(body) }
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

/** The header that a person sends, and what the refusal tells them. */
const KEYS: [name: string, headers: Record<string, string>, advice: RegExp][] = [
  ['no key', {}, /Authorization: Bearer <key>\. "sluice keys create" makes one/],
  [
    'another header',
    { 'x-api-key': key },
    /The header x-api-key is not read\. Send the key as Authorization: Bearer <key>/,
  ],
  ['Basic', { authorization: `Basic ${btoa(`:${key}`)}` }, /must be Bearer, not Basic.*\(curl -H, not -u\)/],
  ['Token', { authorization: `Token ${key}` }, /must be Bearer, not Token/],
  ['the key alone', { authorization: key }, /The word Bearer before the key is missing/],
  ['no space', { authorization: `Bearer${key}` }, /The space after Bearer is missing/],
  ['a colon', { authorization: `Bearer: ${key}` }, /a colon after Bearer/],
  ['no key after Bearer', { authorization: 'Bearer ' }, /no key after Bearer: the variable .* may be empty/],
  ['Bearer twice', { authorization: `Bearer Bearer ${key}` }, /Bearer twice/],
  ['quotes', { authorization: `Bearer "${key}"` }, /Remove the quotes/],
  ['a variable in single quotes', { authorization: 'Bearer $SLUICE_KEY' }, /placeholder.*double quotes/],
  ['a placeholder', { authorization: 'Bearer <key>' }, /placeholder instead of a key/],
  ['white space', { authorization: `Bearer ${key.slice(0, 30)} ${key.slice(30)}` }, /white space within/],
  ['the id of the key', bearer(key.split('_')[1] as string), /id of a key\. Send the key itself/],
  ['a part of the key', bearer(key.slice(0, 40)), /40 characters instead of 63: copy all of it/],
  [
    'a key of another server',
    bearer(`sluice_${'0'.repeat(12)}_${'a'.repeat(43)}`),
    /another server or database\. "sluice keys list"/,
  ],
  [
    'the first key of another server',
    bearer(`sluice_${'0'.repeat(64)}`),
    /copied incorrectly, or belong to another server/,
  ],
  ['a key with more at its end', bearer(`${key}x`), /copied incorrectly/],
  ['a wrong character', bearer(key.replace(/.$/, '.')), /wrong character: copy it again/],
  ['a JWT', bearer('eyJhbGciOiJIUzI1NiJ9.e30.x'), /JWT.*"sluice keys create"/],
  ['another token', bearer('0123456789abcdef0123'), /begin with sluice_/],
  ['an expired key', bearer(expired), /expired at \d{4}-.*"sluice keys create"/],
]

t.test('a refusal of a key says what is wrong with the header, and repeats nothing of it', async (t) => {
  for (const [name, headers, advice] of KEYS) {
    const answer = await call({ method: 'POST', url: '/v1/records', headers, payload: RECORD })
    isProblem(t, answer, 'unauthorized', { name })
    t.match(answer.json.detail, advice, name)
    t.equal(/instead of 63/.test(answer.text), name === 'a part of the key', `${name}: the length`)
    for (const secret of [key.slice(-20), key.slice(0, 30), expired.slice(-20), btoa(`:${key}`)])
      t.notOk(answer.text.includes(secret), `${name}: no secret in the response`)
  }
})

/** A query of GET /v1/records, the parameter at fault, and what the refusal tells a person. */
const QUERIES: [query: string, pointer: string, advice: RegExp, code?: ProblemCode][] = [
  ['limt=5', 'limt', /limt does not exist\. Did you mean limit\? The parameters are source, .*cursor\.$/],
  ['Source=shop', 'Source', /Did you mean source\?/],
  ['source_prefix=shop', 'source_prefix', /Did you mean sourcePrefix\?/],
  ['time_from=x', 'time_from', /Did you mean timeFrom\?/],
  ['from=x', 'from', /Did you mean timeFrom\?/],
  ['since=x', 'since', /Did you mean timeFrom\?/],
  ['until=x', 'until', /Did you mean timeUntil\?/],
  ['recievedFrom=x', 'recievedFrom', /Did you mean receivedFrom\?/],
  ['page_size=5', 'page_size', /Did you mean limit\?/],
  ['offset=5', 'offset', /Did you mean cursor\?/],
  ['sort=asc', 'sort', /Did you mean order\?/],
  ['select=a', 'select', /Did you mean fields\?/],
  ['q=a', 'q', /Did you mean jsonpath\?/],
  ['xyzzy=1', 'xyzzy', /does not exist\. The parameters are/],
  ['%1B%5B2J=1', '\u001b[2J', /"\\u001b\[2J" does not exist/],
  ['limit=0', 'limit', /whole number from 1 to 1000\. It is "0"/],
  ['limit=5000', 'limit', /from 1 to 1000/],
  ['limit=abc', 'limit', /whole number from 1 to 1000\. It is "abc"/],
  ['limit=1.5', 'limit', /whole number from 1 to 1000/],
  ['limit=', 'limit', /limit is empty\. Give it a value, or omit it|whole number/],
  ['order=ascending', 'order', /must be one of desc, asc\. Write asc for "ascending"/],
  ['order=ASC', 'order', /Write asc for "ASC"/],
  ['order=up', 'order', /must be one of desc, asc\. It is "up"/],
  ['count=yes', 'count', /true or false\. It is "yes"/],
  ['type=a&type=b', 'type', /occurs 2 times, but may occur only once/],
  ['source=', 'source', /source is empty\. Give it a value, or omit it/],
  ['cursor=null', 'cursor', /the last page has no next page\. To read the first page, omit cursor/, 'invalid_offset'],
  ['cursor=abc', 'cursor', /Use the value of next/, 'invalid_offset'],
  ['timeFrom=2026-01-31', 'timeFrom', /write 2026-01-31T00:00:00Z/],
  ['timeFrom=1735689600', 'timeFrom', /it is 2025-01-01T00:00:00Z/],
  ['timeFrom=2026-01-31T12:00:00', 'timeFrom', /no UTC offset: if it is in UTC, write 2026-01-31T12:00:00Z/],
  ['timeFrom=2026-01-31T12:00:00+01:00', 'timeFrom', /\+ must be written as %2B/],
  [
    'data={total:5}',
    'data',
    /^data is not JSON: the error .* name needs double quotes\. Encode .*curl -G --data-urlencode/,
  ],
  ["data={'total':5}", 'data', /not single ones\. Encode the parameter: curl -G/],
  ['data="total":5', 'data', /with its quotes, .*with its braces\. Encode the parameter: curl -G/],
  ['data={"total":5', 'data', /too early\. A quote or a bracket is not closed\. Encode/],
  ...['shop', "'shop'", 'a,b,c', '@file.json', 'a=1'].map((text): (typeof QUERIES)[number] => [
    `data=${text}`,
    'data',
    /with its quotes, such as "shop".*\. Encode the parameter: (?!.*FILE)/,
  ]),
  ['jsonpath=total', 'jsonpath', /write a path, such as \$\.total/],
  ['fields=total', 'fields', /data\.total/],
  ['fields=Source', 'fields', /Write source\./],
]

t.test('a date that does not exist is called so once', async (t) => {
  for (const [time, said] of [
    ['2026-02-30', 'must be an RFC 3339 time such as 2026-01-31T12:00:00Z. There is no such date.'],
    ['2026-02-30T12:00:00Z', 'has a date that does not exist.'],
  ] as const) {
    const { json } = await call({ url: `/v1/records?timeFrom=${time}`, headers: bearer(key) })
    t.equal(json.detail, `timeFrom ${said}`)
  }
})

t.test('a refusal of a query names the parameter, what is allowed, and the nearest name', async (t) => {
  for (const [query, pointer, advice, code = 'invalid_query'] of QUERIES) {
    const answer = await call({ url: `/v1/records?${query}`, headers: bearer(key) })
    isProblem(t, answer, code, { name: query, errors: [{ pointer, code }] })
    t.match(answer.json.detail, advice, query)
  }
  const long = await call({ url: `/v1/records?${'x'.repeat(3000)}=1`, headers: bearer(key) })
  t.ok(long.json.detail.length < 500, 'a long name is cut')
})

/** Other requests, and what the refusal tells a person. */
const REQUESTS: [name: string, request: InjectOptions, code: ProblemCode, advice: RegExp][] = [
  [
    'a wrong scope',
    { url: '/v1/records', headers: bearer(limited) },
    'forbidden',
    new RegExp(`${limitedId} lacks the scope "read"; it has ingest\\..*keys create --scope read`),
  ],
  [
    'another source',
    { method: 'POST', url: '/v1/records', headers: bearer(limited), payload: RECORD },
    'source_forbidden',
    /"shop".*till0\/ till1\/ .* and 20 more/,
  ],
  [
    'a source with slashes',
    { url: '/v1/records/https://shop/1', headers: bearer(key) },
    'route_not_found',
    /\{source\}\/\{id\}, in which a slash .* %2F/,
  ],
  [
    'only a source',
    { url: '/v1/records/shop', headers: bearer(key) },
    'route_not_found',
    /\/v1\/records\/\{source\}\/\{id\}/,
  ],
  [
    'a slash at the end',
    { method: 'POST', url: '/v1/records/', headers: bearer(key), payload: RECORD },
    'route_not_found',
    /Did you mean \/v1\/records\?/,
  ],
  ['a misspelt path', { url: '/v1/recrods', headers: bearer(key) }, 'route_not_found', /Did you mean \/v1\/records\?/],
  ['a long path', { url: `/${'x'.repeat(5000)}` }, 'route_not_found', /^.{1,400}$/],
  [
    'PUT',
    { method: 'PUT', url: '/v1/records', headers: bearer(key) },
    'method_not_allowed',
    /POST \/v1\/records stores records/,
  ],
  [
    'DELETE of a record',
    { method: 'DELETE', url: '/v1/records/s/1', headers: bearer(key) },
    'method_not_allowed',
    /retention policies/,
  ],
  [
    'a key in place of its id',
    { method: 'DELETE', url: `/v1/keys/${limited}`, headers: bearer(key) },
    'not_found',
    new RegExp(`This is a key, not its id\\. Its id is ${limitedId}`),
  ],
  [
    'a field of a key',
    { method: 'POST', url: '/v1/keys', headers: bearer(key), payload: { name: 'x', scope: ['read'] } },
    'invalid_body',
    /scopes/,
  ],
  [
    'another name of a field',
    { method: 'POST', url: '/v1/keys', headers: bearer(key), payload: { name: 'x', scopes: ['read'], rate: 5 } },
    'invalid_body',
    /Did you mean recordsPerSecond\?/,
  ],
  [
    'an expiry without an offset',
    {
      method: 'POST',
      url: '/v1/keys',
      headers: bearer(key),
      payload: { name: 'x', scopes: ['read'], expiresAt: '2099-01-31' },
    },
    'invalid_body',
    /write 2099-01-31T00:00:00Z/,
  ],
  ['metrics', { url: '/metrics' }, 'route_not_found', /port of their own: METRICS_PORT/],
  ['no id', { url: '/v1/records/shop/', headers: bearer(key) }, 'not_found', /no id\. GET \/v1\/records\?source=/],
  [
    'an empty Idempotency-Key',
    { method: 'POST', url: '/v1/records', headers: { ...bearer(key), 'idempotency-key': '' }, payload: RECORD },
    'invalid_header',
    /Idempotency-Key must be 1 to 240 printable ASCII characters/,
  ],
]

t.test('other refusals say what to do', async (t) => {
  for (const [name, request, code, advice] of REQUESTS) {
    const answer = await call(request)
    isProblem(t, answer, code, { name })
    t.match(answer.json.detail, advice, name)
    t.notOk(answer.json.detail.includes(limited.slice(-20)), `${name}: no key in the detail`)
  }
})

t.test('a key over its rate is told when to send again', async (t) => {
  const send = () =>
    call({ method: 'POST', url: '/v1/records', headers: bearer(slow), payload: [...Array(60)].map(() => RECORD) })
  t.equal((await send()).status, 201)
  const refused = await send()
  isProblem(t, refused, 'rate_limited')
  t.match(refused.json.detail, new RegExp(`again in ${refused.headers['retry-after']} s`))
})
