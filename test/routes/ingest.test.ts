import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { isProblem } from '../helpers/problem.ts'

const { post, get, makeKey, app } = await createApp(t)
const record = (id: string, more: object = {}) => ({ source: 'shop', type: 'order.placed', id, ...more })
const UUID_V7 = /^[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/
const CURSOR = /^1[\da-f]{48}$/

t.test('the response to a new record is 201 with its result and its Location', async (t) => {
  const answer = await post(record('new/1'))
  t.equal(answer.status, 201)
  t.equal(answer.headers['content-type'], 'application/json; charset=utf-8')
  t.equal(answer.headers.location, '/v1/records/shop/new%2F1')
  t.match(answer.json, {
    counts: { created: 1, duplicate: 0, conflict: 0, rejected: 0 },
    results: [{ index: 0, source: 'shop', id: 'new/1', status: 'created', cursor: CURSOR }],
  })
  t.equal((await get(String(answer.headers.location))).json.id, 'new/1')
})

t.test('if a client would remove the source or the id from a path, the Location is a list query', async (t) => {
  for (const [source, id] of [
    ['shop', '..'],
    ['shop', '.'],
    ['..', 'a b'],
  ] as const) {
    const location = String((await post({ source, id, type: 't' })).headers.location)
    const { pathname, search } = new URL(location, 'http://sluice.invalid')
    t.equal(pathname + search, location, 'a client requests the Location unchanged')
    t.match((await get(location)).json.records, [{ source, id }])
  }
})

t.test('a record without id and time gets a UUIDv7 and the time of receipt', async (t) => {
  const before = Date.now()
  const answer = await post('{"source":"shop","type":"order.placed"}')
  t.equal(answer.status, 201)
  const { id } = answer.json.results[0]
  t.match(id, UUID_V7)
  const read = (await get(`/v1/records/shop/${id}`)).json
  t.equal(read.time, read.receivedAt)
  t.ok(Date.parse(read.receivedAt) >= before - 1 && Date.parse(read.receivedAt) <= Date.now() + 1)
})

t.test('a record that is sent again is a duplicate: 200, the same cursor, no Location', async (t) => {
  const first = await post(record('again', { data: { a: 1 } }))
  const second = await post(record('again', { data: { a: 1 } }))
  t.equal(second.status, 200)
  t.equal(second.headers.location, undefined)
  t.match(second.json, { counts: { created: 0, duplicate: 1 }, results: [{ status: 'duplicate' }] })
  t.equal(second.json.results[0].cursor, first.json.results[0].cursor)
})

t.test('a record that is sent again with other content is a conflict, and the stored one stays', async (t) => {
  const sent = {
    ...record('conflict'),
    subject: 'a',
    time: '2026-01-31T12:00:00Z',
    dataschema: 'https://example.com/a',
    datacontenttype: 'application/json',
    ext: 'a',
    data: { a: 1 },
  }
  t.equal((await post(sent)).status, 201)
  const stored = (await get('/v1/records/shop/conflict')).text
  for (const change of [
    { type: 'order.changed' },
    { subject: 'b' },
    { subject: undefined },
    { time: '2026-01-31T12:00:01Z' },
    { dataschema: 'https://example.com/b' },
    { datacontenttype: 'application/cloudevents+json' },
    { ext: 'b' },
    { ext: undefined },
    { more: true },
    { data: { a: 2 } },
    { data: null },
    { data: undefined },
    { data: undefined, data_base64: 'QQ==' },
  ]) {
    const name = JSON.stringify(change)
    const answer = await post({ ...sent, ...change })
    isProblem(t, answer, 'conflict', { name, errors: [{ index: 0, pointer: '/id', code: 'conflict' }] })
  }
  t.equal((await get('/v1/records/shop/conflict')).text, stored)
})

t.test('a record that is written differently but means the same is a duplicate', async (t) => {
  t.equal(
    (await post('{"source":"shop","type":"t","id":"same","data":{"a":1,"b":[1.50]},"x":"1","y":true}')).status,
    201,
  )
  for (const body of [
    '{"data":{"b":[1.50],"a":1},"y":true,"x":"1","id":"same","type":"t","source":"shop"}',
    ' {\n"source" : "shop", "type":"t","id":"same","data":{ "a" : 1,\t"b":[ 1.50 ]} ,"x":"1","y":true}\r\n',
    '{"source":"\\u0073hop","type":"t","id":"same","data":{"\\u0061":1,"b":[1.5]},"x":"1","y":true}',
    '{"source":"shop","type":"t","id":"same","data":{"a":1,"b":[1.50]},"x":"1","y":true,"subject":null,"specversion":"1.0"}',
  ]) {
    t.match((await post(body)).json, { results: [{ status: 'duplicate' }] }, body)
  }
})

t.test('the trace of a request is not compared; a time that is sent is, also with the time of receipt', async (t) => {
  const trace = (digit: string) => ({ traceparent: `00-${digit.repeat(32)}-${digit.repeat(16)}-01` })
  t.equal((await post(record('filled'), trace('1'))).status, 201)
  t.match((await get('/v1/records/shop/filled')).json, trace('1'), 'the trace is kept')
  t.match((await post(record('filled'), trace('2'))).json.results, [{ status: 'duplicate' }], 'another trace')
  t.match((await post(record('filled'))).json.results, [{ status: 'duplicate' }], 'no trace')
  const time = '2026-01-31T12:00:00Z'
  isProblem(t, await post(record('filled', { time })), 'conflict', { name: 'only the new record has a time' })
  const { receivedAt } = (await get('/v1/records/shop/filled')).json
  t.match(
    (await post(record('filled', { time: receivedAt }))).json.results,
    [{ status: 'duplicate' }],
    'the time of receipt as the time',
  )
  t.equal((await post(record('timed', { time }))).status, 201)
  isProblem(t, await post(record('timed', { time: receivedAt })), 'conflict', { name: 'another time' })
  t.match((await post(record('timed'))).json.results, [{ status: 'duplicate' }], 'only the stored record has a time')
  t.match((await post(record('timed', { time: '2026-01-31T14:00:00+02:00' }))).json.results, [{ status: 'duplicate' }])
})

t.test('a record that is sent back as it was read is a duplicate', async (t) => {
  await post(record('returned', { data: { n: 1 }, ext: 5 }))
  const read = await get('/v1/records/shop/returned')
  t.match((await post(read.text)).json.results, [{ status: 'duplicate' }])
})

t.test('the traceparent of a record has priority over that of its request', async (t) => {
  const own = `00-${'a'.repeat(32)}-${'a'.repeat(16)}-01`
  await post(record('traced', { traceparent: own }), { traceparent: `00-${'b'.repeat(32)}-${'b'.repeat(16)}-01` })
  t.equal((await get('/v1/records/shop/traced')).json.traceparent, own)
  await post(record('untraced'), { traceparent: `00-${'0'.repeat(32)}-${'b'.repeat(16)}-01` })
  t.equal((await get('/v1/records/shop/untraced')).json.traceparent, undefined, 'an invalid one is ignored')
})

t.test('Idempotency-Key', async (t) => {
  await t.test('becomes the id of a single record, so that the record can be sent again', async (t) => {
    const body = '{"source":"idem","type":"t","data":1}'
    const first = await post(body, { 'idempotency-key': 'k 1' })
    t.equal(first.status, 201)
    t.equal(first.json.results[0].id, 'k 1')
    t.equal(first.headers.location, '/v1/records/idem/k%201')
    t.match((await post(body, { 'idempotency-key': '"k 1"' })).json.results, [{ id: 'k 1', status: 'duplicate' }])
    isProblem(t, await post('{"source":"idem","type":"t","data":2}', { 'idempotency-key': 'k 1' }), 'conflict')
  })
  await t.test('and the index become the id of each record in a batch that has none', async (t) => {
    const body = '[{"source":"idem","type":"t"},{"source":"idem","type":"t","id":"own"},{"source":"idem","type":"t"}]'
    const expected = (status: string) => [
      { id: 'batch.0', status },
      { id: 'own', status },
      { id: 'batch.2', status },
    ]
    const first = await post(body, { 'idempotency-key': 'batch' })
    t.equal(first.status, 201)
    t.match(first.json.results, expected('created'))
    const second = await post(body, { 'idempotency-key': 'batch' })
    t.equal(second.status, 200)
    t.match(second.json.results, expected('duplicate'))
  })
  await t.test('that is empty, too long or not ASCII is refused', async (t) => {
    t.equal((await post('{"source":"idem","type":"t"}', { 'idempotency-key': 'x'.repeat(240) })).status, 201)
    for (const key of ['', '""', '" "', 'x'.repeat(241), 'caf\u00e9']) {
      const answer = await post('{"source":"idem","type":"t"}', { 'idempotency-key': key })
      isProblem(t, answer, 'invalid_header', {
        name: JSON.stringify(key.slice(0, 9)),
        errors: [{ pointer: 'Idempotency-Key', code: 'invalid_header' }],
      })
    }
  })
})

t.test('a batch', async (t) => {
  await t.test('of new records is 201 with a result for each, in order, and without Location', async (t) => {
    const answer = await post([record('b0'), record('b1'), record('b2')])
    t.equal(answer.status, 201)
    t.equal(answer.headers.location, undefined)
    t.match(
      answer.json.results,
      ['b0', 'b1', 'b2'].map((id, index) => ({ index, source: 'shop', id, status: 'created', cursor: CURSOR })),
    )
    t.same(answer.json.counts, { created: 3, duplicate: 0, conflict: 0, rejected: 0 })
    const cursors = answer.json.results.map(({ cursor }: { cursor: string }) => cursor)
    t.equal(new Set(cursors).size, 3)
  })
  await t.test('of known and new records is 201, and of only known records 200', async (t) => {
    t.equal((await post([record('b0'), record('b3')])).status, 201)
    t.equal((await post([record('b0'), record('b3')])).status, 200)
  })
  await t.test('with rejected records is 207: its results name them, and the others are stored', async (t) => {
    await post(record('taken', { data: 1 }))
    const answer = await post([record('m0'), { source: 'shop' }, record('taken', { data: 2 }), record('b0'), 5])
    t.equal(answer.status, 207)
    t.equal(answer.headers['content-type'], 'application/json; charset=utf-8')
    t.same(answer.json.counts, { created: 1, duplicate: 1, conflict: 1, rejected: 2 })
    t.match(answer.json.results, [
      { index: 0, id: 'm0', status: 'created' },
      { index: 1, status: 'rejected', source: 'shop', error: { pointer: '/type', code: 'required' } },
      { index: 2, id: 'taken', status: 'conflict', error: { pointer: '/id', code: 'conflict' } },
      { index: 3, id: 'b0', status: 'duplicate' },
      { index: 4, status: 'rejected', error: { pointer: '', code: 'wrong_type' } },
    ])
    for (const { error } of answer.json.results) t.equal(error?.index, undefined, 'the result already has the index')
    t.equal((await get('/v1/records/shop/m0')).status, 200)
    t.equal((await get('/v1/records/shop/taken')).json.data, 1)
  })
  await t.test('of which no record is stored is a problem with all faults', async (t) => {
    isProblem(t, await post([{ source: 'shop' }, 5]), 'rejected', {
      errors: [
        { index: 0, pointer: '/type', code: 'required' },
        { index: 1, pointer: '', code: 'wrong_type' },
      ],
    })
    isProblem(t, await post([record('taken', { data: 2 }), record('taken', { data: 3 })]), 'conflict', {
      errors: [
        { index: 0, code: 'conflict' },
        { index: 1, code: 'conflict' },
      ],
    })
    isProblem(t, await post([record('taken', { data: 2 }), 5]), 'rejected', {
      name: 'of two kinds',
      errors: [
        { index: 0, code: 'conflict' },
        { index: 1, code: 'wrong_type' },
      ],
    })
  })
  await t.test('of no records succeeds and stores nothing', async (t) => {
    const answer = await post('[]')
    t.equal(answer.status, 200)
    t.same(answer.json, { counts: { created: 0, duplicate: 0, conflict: 0, rejected: 0 }, results: [] })
  })
  await t.test('of 10,000 records is stored, and one of 10,001 is refused as a whole', async (t) => {
    const many = (count: number, source: string) =>
      JSON.stringify(Array.from({ length: count }, (_, n) => ({ source, type: 't', id: String(n) })))
    const answer = await post(many(10_000, 'many'))
    t.equal(answer.status, 201)
    t.equal(answer.json.counts.created, 10_000)
    t.same(
      answer.json.results.map(({ index, id }: { index: number; id: string }) => index === Number(id)),
      new Array(10_000).fill(true),
    )
    t.equal((await get('/v1/records/many/9999')).status, 200)
    isProblem(t, await post(many(10_001, 'toomany')), 'too_many_records')
    t.equal((await get('/v1/records/toomany/0')).status, 404)
  })
  await t.test('that repeats a record stores it once: the second is a duplicate', async (t) => {
    const answer = await post([record('twice', { data: 1 }), record('twice', { data: 1.0 })])
    t.equal(answer.status, 201)
    t.match(answer.json.results, [{ status: 'created' }, { status: 'duplicate' }])
    t.equal(answer.json.results[0].cursor, answer.json.results[1].cursor)
  })
  await t.test('that repeats an identity with other content stores the first: the second is a conflict', async (t) => {
    const answer = await post([
      record('thrice', { data: 1 }),
      record('thrice', { data: 2 }),
      record('thrice', { data: 1 }),
    ])
    t.equal(answer.status, 207)
    t.match(answer.json.results, [{ status: 'created' }, { status: 'conflict' }, { status: 'duplicate' }])
    t.equal((await get('/v1/records/shop/thrice')).json.data, 1)
  })
  await t.test('with the same id from two sources is two records', async (t) => {
    const answer = await post([record('1', { source: 'a' }), record('1', { source: 'b' })])
    t.match(answer.json.results, [{ status: 'created' }, { status: 'created' }])
  })
})

t.test('Prefer: return=minimal returns only the counts, the rejected records and the conflicts', async (t) => {
  const prefer = { prefer: 'respond-async, return=minimal' }
  const good = await post([record('min0'), record('min1')], prefer)
  t.equal(good.status, 201)
  t.equal(good.headers['preference-applied'], 'return=minimal')
  t.same(good.json, { counts: { created: 2, duplicate: 0, conflict: 0, rejected: 0 }, results: [] })
  const mixed = await post([record('min0'), 5, record('min1', { data: 1 })], prefer)
  t.equal(mixed.status, 207)
  t.match(mixed.json.counts, { duplicate: 1, conflict: 1, rejected: 1 })
  t.match(mixed.json.results, [
    { index: 1, status: 'rejected' },
    { index: 2, status: 'conflict' },
  ])
  t.equal(mixed.json.results.length, 2)
  t.equal((await post(record('min2'))).headers['preference-applied'], undefined, 'without Prefer nothing is applied')
  t.equal((await post(record('min2'), { prefer: 'wait=5' })).headers['preference-applied'], undefined)
})

t.test('Prefer: handling=strict makes a batch all or nothing', async (t) => {
  const prefer = { prefer: 'handling=strict' }
  await post(record('strict-taken', { data: 1 }))
  for (const [name, bad, code, at] of [
    ['a fault', { source: 'shop', type: 't', id: 7 }, 'strict_refused', { pointer: '/id', code: 'wrong_type' }],
    ['a conflict', record('strict-taken', { data: 2 }), 'conflict', { pointer: '/id', code: 'conflict' }],
  ] as const) {
    const answer = await post([record('strict0'), bad, record('strict1')], prefer)
    isProblem(t, answer, code, { name, errors: [{ index: 1, ...at }] })
    t.equal((await get('/v1/records/shop/strict0')).status, 404, `${name}: nothing before it was stored`)
    t.equal((await get('/v1/records/shop/strict1')).status, 404, `${name}: nothing after it was stored`)
  }
  const both = await post([record('strict0'), record('strict-taken', { data: 2 }), 5], prefer)
  isProblem(t, both, 'strict_refused', { errors: [{ index: 2, code: 'wrong_type' }] })

  const good = await post([record('strict0'), record('strict-taken', { data: 1 }), record('strict0')], {
    prefer: 'handling=strict, return=minimal',
  })
  t.equal(good.status, 201)
  t.equal(good.headers['preference-applied'], 'return=minimal, handling=strict')
  t.same(good.json, { counts: { created: 1, duplicate: 2, conflict: 0, rejected: 0 }, results: [] })
})

t.test('a key with source prefixes stores only records of these sources', async (t) => {
  const { token } = await makeKey({ sourcePrefixes: ['mine/', 'ours'] })
  const authorization = `Bearer ${token}`
  const at = (source: string) => ({ source, type: 't', id: '1' })
  t.equal((await post([at('mine/a'), at('ours'), at('ours/2')], { authorization })).status, 201)
  isProblem(t, await post(at('mine'), { authorization }), 'source_forbidden', {
    errors: [{ index: 0, pointer: '/source', code: 'source_forbidden' }],
  })
  isProblem(t, await post([at('Mine/a'), at('x')], { authorization }), 'source_forbidden', {
    name: 'a batch',
    errors: [{ index: 0 }, { index: 1 }],
  })
  const mixed = await post([at('theirs'), at('mine/b')], { authorization })
  t.equal(mixed.status, 207)
  t.match(mixed.json.results, [{ status: 'rejected', error: { code: 'source_forbidden' } }, { status: 'created' }])
  const strict = await post([at('theirs'), at('mine/c')], { authorization, prefer: 'handling=strict' })
  isProblem(t, strict, 'strict_refused')
  t.equal((await get('/v1/records/mine%2Fc/1')).status, 404)
})

// A prefix matched every source that began with it: the key for shop could write as shopping-mall.
t.test('a key for shop cannot store as shopping-mall or shop/../admin, and the problem has the rule', async (t) => {
  const authorization = `Bearer ${(await makeKey({ sourcePrefixes: ['shop'] })).token}`
  const at = (source: string) => ({ source, type: 't', id: 'boundary' })
  const lines = (sources: string[]) => sources.map((source) => JSON.stringify(at(source))).join('\n')
  t.equal((await post(['shop', 'shop/1', 'shop:1', 'shop.eu'].map(at), { authorization })).status, 201)
  const others = ['shopping-mall', 'shop/../admin', 'shop/%2E%2e/admin']
  for (const source of others)
    isProblem(t, await post(at(source), { authorization }), 'source_forbidden', { name: source })
  const ndjson = await post(lines(others), { authorization, 'content-type': 'application/x-ndjson' })
  isProblem(t, ndjson, 'source_forbidden', { name: 'lines' })
  const [mall, dots] = ndjson.json.rejections
  t.match(
    mall.detail,
    /source prefixes shop: each allows the source of that name and every source that continues it with "\/", ":" or "\."/,
  )
  t.match(dots.detail, /"\." or "\.\." segment/)
  t.equal((await post(others.map(at))).status, 201, 'a key without prefixes may use them')
})

t.test('JSON in UTF-8 is accepted, and unknown media types and other charsets are refused', async (t) => {
  const body = '{"source":"media","type":"t"}'
  for (const type of [
    'application/json',
    'Application/JSON',
    'application/json;charset=UTF-8',
    'application/json ; charset="utf-8"; x=y',
  ]) {
    t.equal((await post(body, { 'content-type': type })).status, 201, type)
  }
  for (const type of [
    'text/plain',
    'application/xml',
    'application/jsonp',
    'multipart/form-data; boundary=x',
    'json',
    'a/b/c',
  ]) {
    isProblem(t, await post(body, { 'content-type': type }), 'unsupported_media_type', { name: type })
  }
  for (const charset of ['utf-16', 'latin1', '"iso-8859-1"', 'utf-7']) {
    const answer = await post(body, { 'content-type': `application/json; charset=${charset}` })
    isProblem(t, answer, 'unsupported_charset', { name: charset })
  }
})

t.test('the response to an unsupported media type lists the supported ones', async (t) => {
  const answer = await post('{}', { 'content-type': 'text/plain' })
  isProblem(t, answer, 'unsupported_media_type')
  t.same(String(answer.headers['accept-post']).split(', ').sort(), [
    'application/cloudevents+json',
    'application/cloudevents-batch+json',
    'application/json',
    'application/jsonl',
    'application/ndjson',
    'application/x-ndjson',
  ])
})

t.test('a rejected record is named by its source and id, as far as they can be read', async (t) => {
  const answer = await post(
    '[{"source":"s","type":5,"id":"named"},{"source":5,"type":"t","id":"half"},{"source":"\\ud800","type":"t"},[],{"source":"s","type":"t"}]',
  )
  t.equal(answer.status, 207)
  t.match(answer.json.results.map(({ error, ...rest }: { error: unknown }) => rest).slice(0, 4), [
    { index: 0, source: 's', id: 'named', status: 'rejected' },
    { index: 1, id: 'half', status: 'rejected' },
    { index: 2, status: 'rejected' },
    { index: 3, status: 'rejected' },
  ])
  isProblem(t, await post('[{"source":"s","type":5,"id":"named"},{"source":"s","id":"untyped"}]'), 'rejected', {
    errors: [
      { index: 0, source: 's', id: 'named', pointer: '/type', code: 'wrong_type' },
      { index: 1, source: 's', id: 'untyped', pointer: '/type', code: 'required' },
    ],
  })
})

t.test('an unknown encoding, or more than one, is refused, and the response lists the supported ones', async (t) => {
  for (const encoding of ['compress', 'gzip, br', 'gzip,gzip', 'snappy', 'gzip;q=1', 'aes128gcm']) {
    const answer = await post('{"source":"media","type":"t"}', { 'content-encoding': encoding })
    isProblem(t, answer, 'unsupported_encoding', { name: encoding })
    t.equal(answer.headers['accept-encoding'], 'gzip, br, zstd, deflate', encoding)
  }
  for (const encoding of ['identity', 'Identity', '']) {
    const answer = await post('{"source":"media","type":"t"}', { 'content-encoding': encoding })
    t.equal(answer.status, 201, `"${encoding}" means none`)
  }
})

t.test('a request without a Content-Type is refused, with or without a body', async (t) => {
  const authorization = `Bearer ${(await makeKey()).token}`
  const bare = await app.inject({ method: 'POST', url: '/v1/records', headers: { authorization }, payload: '{}' })
  t.equal(bare.statusCode, 415)
  t.equal(bare.json().code, 'unsupported_media_type')
  const none = await app.inject({ method: 'POST', url: '/v1/records', headers: { authorization } })
  t.equal(none.statusCode, 415)
  t.equal(none.json().code, 'unsupported_media_type')
})

t.test('an empty body has its own error code', async (t) => {
  isProblem(t, await post(''), 'empty_body')
})
