import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { isProblem } from '../helpers/problem.ts'

const { post, get } = await createApp(t)

const RECORDS = [
  { id: '1', source: 'shop/a', type: 'placed', subject: 's1', time: '2026-01-01T00:00:00Z', data: { a: 1, b: [1, 2] } },
  { id: '2', source: 'shop/b', type: 'placed', subject: 's2', time: '2026-01-02T00:00:00.000001Z', data: { a: 1.0 } },
  { id: '3', source: 'shop', type: 'paid', subject: 's1', time: '2026-01-03T00:00:00Z', data: '\u{1f980}' },
  { id: '4', source: 'shop_', type: 'paid', time: '2025-12-31T23:59:59.999999Z', data: null },
  { id: '5', source: 'other', type: 'Paid', subject: "'; DROP TABLE sluice.records; --" },
  { id: '6', source: 'other/shop', type: 'paid', time: '2026-01-02T00:00:00Z', data: { a: 12345678901234567890n } },
]
const text = JSON.stringify(RECORDS, (_, value) => (typeof value === 'bigint' ? `n${value}` : value))
t.equal((await post(text.replaceAll(/"n(\d+)"/g, '$1'))).json.counts.created, RECORDS.length)

async function idsOf(filter: Record<string, string>): Promise<string> {
  const answer = await get(`/v1/records?${new URLSearchParams(filter)}`)
  if (answer.status !== 200) throw new Error(answer.text)
  return answer.json.records
    .map(({ id }: { id: string }) => id)
    .reverse()
    .join('')
}

t.test('a filter returns the matching records', async (t) => {
  for (const [filter, ids] of [
    [{}, '123456'],
    [{ source: 'shop' }, '3'],
    [{ source: 'shop_' }, '4'],
    [{ source: 'Shop' }, ''],
    [{ sourcePrefix: 'shop' }, '1234'],
    [{ sourcePrefix: 'shop/' }, '12'],
    [{ sourcePrefix: 'shop_' }, '4'],
    [{ sourcePrefix: 'shop%' }, ''],
    [{ sourcePrefix: '_' }, ''],
    [{ id: '2' }, '2'],
    [{ type: 'paid' }, '346'],
    [{ subject: 's1' }, '13'],
    [{ subject: "'; DROP TABLE sluice.records; --" }, '5'],
    [{ type: '\u{1f980}' }, ''],
    [{ timeFrom: '2026-01-02T00:00:00Z', timeUntil: '2026-01-03T00:00:00Z' }, '26'],
    [{ timeFrom: '2026-01-02T01:00:00.000001+01:00', timeUntil: '2026-01-03T00:00:00.000001Z' }, '23'],
    [{ timeUntil: '2026-01-01T00:00:00Z' }, '4'],
    [{ timeFrom: '2026-01-04T00:00:00Z' }, '5'],
    [{ receivedFrom: '2000-01-01T00:00:00Z' }, '123456'],
    [{ receivedUntil: '2000-01-01T00:00:00Z' }, ''],
    [{ data: '{"a":1}' }, '12'],
    [{ data: '{"b":[2]}' }, '1'],
    [{ data: '{}' }, '126'],
    [{ data: 'null' }, '4'],
    [{ data: '"\\ud83e\\udd80"' }, '3'],
    [{ data: '{"a":12345678901234567890}' }, '6'],
    [{ data: '{"a":12345678901234567891}' }, ''],
    [{ type: 'placed', subject: 's1', data: '{"a":1}', sourcePrefix: 'shop' }, '1'],
    [{ source: 'shop', type: 'placed' }, ''],
  ] as [Record<string, string>, string][]) {
    t.equal(await idsOf(filter), ids, JSON.stringify(filter))
  }
})

t.test('receivedFrom is inclusive, and receivedUntil is exclusive', async (t) => {
  const { receivedAt } = (await get('/v1/records/shop/3')).json
  t.equal(await idsOf({ receivedFrom: receivedAt }), '123456')
  t.equal(await idsOf({ receivedUntil: receivedAt }), '')
})

t.test('an invalid filter is refused, and the problem names it', async (t) => {
  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)
  for (const [name, value] of [
    ['source', ''],
    ['sourcePrefix', 'a\u0000'],
    ['source', 'a\u0000'],
    ['subject', '\u0000'],
    ['timeFrom', '2026-02-30T00:00:00Z'],
    ['timeUntil', 'yesterday'],
    ['receivedFrom', '2026-01-01'],
    ['receivedUntil', '0000-01-01T00:00:00Z'],
    ['data', '{a:1}'],
    ['data', '{"a":'],
    ['data', '"\\u0000"'],
    ['data', '"\\ud800"'],
    ['data', '1e400000'],
    // These once exhausted the stack of PostgreSQL or of this process, which was a 500.
    ['data', nested(513)],
    ['data', nested(7000)],
    ['order', 'up'],
    ['sorce', 'shop'],
    ['__proto__', 'x'],
  ] as const) {
    const query = new URLSearchParams({ [name]: value })
    if (name === '__proto__') query.append(name, value)
    isProblem(t, await get(`/v1/records?${decodeBrackets(query)}`), 'invalid_query', {
      name: `${name}=${JSON.stringify(value.slice(0, 20))}`,
      errors: [{ pointer: name, code: 'invalid_query' }],
    })
  }
  t.equal(await idsOf({ data: nested(512) }), '')
})

t.test('if a time has a space instead of a plus, the problem says how to write the plus', async (t) => {
  const answer = await get('/v1/records?timeFrom=2026-01-31T12:00:00+02:00')
  isProblem(t, answer, 'invalid_query', { errors: [{ pointer: 'timeFrom' }] })
  t.match(answer.json.detail, /\+ must be written as %2B\.$/)
  t.equal((await get('/v1/records?timeFrom=2026-01-31T12:00:00%2B02:00')).status, 200)
  t.notMatch((await get('/v1/records?timeFrom=yesterday')).json.detail, '%2B')
})

t.test('the problem for an invalid choice names the valid ones, and for an unknown parameter its name', async (t) => {
  t.match((await get('/v1/records?order=up')).json.detail, 'order must be one of desc, asc.')
  t.match((await get('/v1/records?sorce=shop')).json.detail, 'The parameter sorce does not exist.')
})

t.test('a parameter that is given twice is refused', async (t) => {
  for (const name of ['source', 'type', 'data', 'cursor', 'order']) {
    isProblem(t, await get(`/v1/records?${name}=a&${name}=b`), 'invalid_query', { name })
  }
})

/** Brackets are allowed in a URL. Encoded, the deeply nested ones would exceed the limit of a request's head. */
function decodeBrackets(query: URLSearchParams): string {
  return String(query).replaceAll('%5B', '[').replaceAll('%5D', ']')
}
