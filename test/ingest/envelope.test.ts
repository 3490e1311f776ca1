import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { isProblem } from '../helpers/problem.ts'
import { isRefused, isStored } from '../helpers/refused.ts'

const app = await createApp(t)
const base = '"source":"s","type":"t"'
const EMOJI_256 = '\u{1f980}'.repeat(64)

t.test('a record without source or type is rejected, and the pointer names the missing attribute', async (t) => {
  await isRefused(t, app, '{"type":"t"}', 'required', '/source')
  await isRefused(t, app, '{"source":"s"}', 'required', '/type')
  await isRefused(t, app, '{"source":null,"type":"t"}', 'required', '/source')
  await isRefused(t, app, '{}', 'required', '/source')
})

t.test('a record that is not an object is rejected', async (t) => {
  for (const value of ['null', '5', 'true', '"{}"', '[]', '[{}]', '-1e5', '[[],{"a":[]}]']) {
    const response = await app.post(`[{${base}},${value},{${base}}]`)
    t.equal(response.status, 207, value)
    t.match(
      response.json.results[1],
      { index: 1, status: 'rejected', error: { pointer: '', code: 'wrong_type' } },
      value,
    )
    t.equal(response.json.counts.created, 2, value)
  }
})

t.test('a body that is neither an object nor an array is refused', async (t) => {
  for (const body of ['null', '5', '"text"', 'true']) {
    isProblem(t, await app.post(body), 'wrong_type', { name: body })
  }
})

t.test('a record with an attribute of the wrong type is rejected', async (t) => {
  for (const name of ['source', 'type', 'id', 'time', 'subject', 'dataschema', 'datacontenttype', 'data_base64']) {
    for (const value of ['5', 'true', '{}', '["x"]']) {
      const rest = { source: '"s"', type: '"t"', [name]: value }
      const record = `{${Object.entries(rest).map(([k, v]) => `"${k}":${v}`)}}`
      await isRefused(t, app, record, 'wrong_type', `/${name}`)
    }
  }
})

t.test('specversion is 1.0 or absent', async (t) => {
  await isStored(t, app, `{"specversion":"1.0",${base}}`, { specversion: '1.0' })
  for (const value of ['"0.3"', '1', '"1.0.2"', '1.0']) {
    await isRefused(t, app, `{"specversion":${value},${base}}`, 'invalid_value', '/specversion')
  }
})

t.test('source is a URI-reference of 1 to 512 bytes, and is stored unchanged', async (t) => {
  for (const source of [
    'shop',
    '/sensors/tn-1234567/alerts',
    'https://github.com/cloudevents?a=%20b#/c',
    'urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66',
    'mailto:cncf-wg-serverless@lists.cncf.io',
    'http://[::1]:80/',
    '//host/path',
    '../a/./b',
    '#',
    '?',
    'a'.repeat(512),
    '%F0%9F%A6%80',
    'x;y=1&z',
  ]) {
    await isStored(t, app, JSON.stringify({ source, type: 't' }), { source })
  }
  for (const source of [
    '',
    'a b',
    'a'.repeat(513),
    'a%zz',
    'a%2',
    '1a:b',
    'caf\u00e9',
    'a\\b',
    '<a>',
    'a\nb',
    '\u{1f980}',
    'a\u0000',
    '\ud800',
    'http://[::1',
    '##',
  ]) {
    await isRefused(t, app, JSON.stringify({ source, type: 't' }), 'invalid_value', '/source')
  }
})

t.test('type and id are text of 1 to 256 bytes without control characters, and are stored unchanged', async (t) => {
  for (const name of ['type', 'id']) {
    const record = (value: string) => JSON.stringify({ source: 's', type: 't', [name]: value })
    for (const value of ['x', 'a b', 'x'.repeat(256), EMOJI_256, 'caf\u00e9', '%2F/%', '"\\', ' ', '\u{10000}']) {
      await isStored(
        t,
        app,
        record(name === 'id' ? value : `${value}`),
        { [name]: value },
        `${name} ${value.slice(0, 9)}`,
      )
    }
    for (const value of ['', 'x'.repeat(257), `${EMOJI_256}x`, 'a\tb', 'a\u007f', 'a\u0085', '\ufffe', '\u{1ffff}']) {
      await isRefused(t, app, record(value), 'invalid_value', `/${name}`)
    }
    // JSON.stringify would write the same escapes, but here they are visible.
    for (const escaped of ['\\u0000', '\\ud800', 'a\\udc00b', '\\udc00\\ud800']) {
      const text = record('?').replace('"?"', `"${escaped}"`)
      await isRefused(t, app, text, 'invalid_value', `/${name}`)
    }
  }
})

t.test('valid optional attributes are stored unchanged, and invalid ones are rejected', async (t) => {
  await isStored(
    t,
    app,
    JSON.stringify({
      source: 's',
      type: 't',
      subject: 'caf\u00e9 \u{1f980}/%20 "x"',
      dataschema: 'https://example.com/schema?v=1#a',
      datacontenttype: 'application/vnd.x+json; charset="utf-8"',
      data: 'x',
    }),
    {
      subject: 'caf\u00e9 \u{1f980}/%20 "x"',
      dataschema: 'https://example.com/schema?v=1#a',
      datacontenttype: 'application/vnd.x+json; charset="utf-8"',
    },
  )
  await isRefused(t, app, `{${base},"subject":""}`, 'invalid_value', '/subject')
  await isRefused(t, app, `{${base},"subject":"\\u0000"}`, 'invalid_value', '/subject')
  await isRefused(t, app, `{${base},"dataschema":"/relative"}`, 'invalid_value', '/dataschema')
  await isRefused(t, app, `{${base},"datacontenttype":"json"}`, 'invalid_value', '/datacontenttype')
})

t.test('extension attributes are text, booleans or 32-bit integers, and are stored unchanged', async (t) => {
  const text = await isStored(
    t,
    app,
    `{${base},"partitionkey":"k \u{1f980}","sampled":false,"rate":-2147483648,"top":2147483647,"zero":0,"a1":"","constructor":"c","data":1}`,
    { partitionkey: 'k \u{1f980}', sampled: false, rate: -2147483648, top: 2147483647, zero: 0, a1: '' },
  )
  t.equal(JSON.parse(text).constructor, 'c', 'also under a name that every object has')

  for (const value of [
    '2147483648',
    '-2147483649',
    '1.5',
    '1e2',
    '{}',
    '[1]',
    `${'['.repeat(600)}${']'.repeat(600)}`,
  ]) {
    await isRefused(t, app, `{${base},"ext":${value}}`, 'wrong_type', '/ext')
  }
  for (const value of ['\\u0000', '\\ud800', '\\n', '\\ufffe']) {
    await isRefused(t, app, `{${base},"ext":"${value}"}`, 'invalid_value', '/ext')
  }
})

// As a double, the first of these numbers is exactly 1. It was stored, and read back as a different number.
t.test('an extension with a fraction or an exponent is rejected, however close to an integer it is', async (t) => {
  await isRefused(t, app, `{${base},"ext":1.00000000000000000001}`, 'wrong_type', '/ext')
  await isRefused(t, app, `{${base},"ext" : 1.0}`, 'wrong_type', '/ext')
  await isRefused(t, app, `{${base},"data":1.5,"\\u0065xt":100e-2}`, 'wrong_type', '/ext')
  await isStored(t, app, `{${base},"ext":1,"data":1.0}`, { ext: 1 })
})

t.test('a field that is neither an attribute nor a valid extension is rejected, with a pointer to it', async (t) => {
  for (const [name, pointer] of [
    ['Subject', '/Subject'],
    ['my_field', '/my_field'],
    ['', '/'],
    ['a/b~c', '/a~1b~0c'],
    ['__proto__', '/__proto__'],
    ['hasOwnProperty', '/hasOwnProperty'],
    ['caf\u00e9', '/caf\u00e9'],
    ['\\ud800', '/\ufffd'],
    ['\\u0000', '/\u0000'],
  ] as const) {
    for (const value of ['"x"', '{"a":1}', 'null']) {
      await isRefused(t, app, `{${base},"${name}":${value}}`, 'unknown_field', pointer, `${name} ${value}`)
    }
  }
})

t.test('a field that occurs twice is rejected, even if one of its names has escapes', async (t) => {
  await isRefused(t, app, `{${base},"id":"1","id":"1"}`, 'repeated_field', '/id')
  await isRefused(t, app, `{${base},"data":1,"d\\u0061ta":2}`, 'repeated_field', '/data')
  await isRefused(t, app, `{${base},"__proto__":1 , "__proto__":2}`, 'repeated_field', '/__proto__')
})

t.test('an attribute that is null counts as absent', async (t) => {
  const text = await isStored(
    t,
    app,
    `{${base},"id":null,"subject":null,"time":null,"ext":null,"data_base64":null,"data":1}`,
    {
      data: 1,
    },
  )
  t.notMatch(text, /"(subject|ext|data_base64)"/)
})

t.test('data may be null, which is not the same as absent data', async (t) => {
  t.match(await isStored(t, app, `{${base},"data":null}`, { data: null }), '"data":null')
  t.notMatch(await isStored(t, app, `{${base}}`, {}), '"data"')
})

t.test('data_base64 is stored unchanged, and invalid base64 is rejected', async (t) => {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, n) => n))
  for (const data_base64 of ['', 'QQ==', 'QUI=', 'QUJD', bytes.toString('base64')]) {
    const text = await isStored(t, app, JSON.stringify({ source: 's', type: 't', data_base64 }), { data_base64 })
    t.notMatch(text, '"data":')
  }
  for (const text of ['QQ', 'QQ=', 'Q===', 'QQ==\\n', 'Q Q=', 'Q-__', 'QQ==QQ==', '=', '\\u0000AAA']) {
    await isRefused(t, app, `{${base},"data_base64":"${text}"}`, 'invalid_value', '/data_base64')
  }
})

// PostgreSQL's decode() ignores the unused bits of the last character: "QR==" was read back as "QQ==".
t.test('base64 whose unused bits are not zero is rejected', async (t) => {
  await isRefused(t, app, `{${base},"data_base64":"QR=="}`, 'invalid_value', '/data_base64')
  await isRefused(t, app, `{${base},"data_base64":"QUJ="}`, 'invalid_value', '/data_base64')
})

t.test('data and data_base64 exclude each other', async (t) => {
  await isRefused(t, app, `{${base},"data":1,"data_base64":"QQ=="}`, 'invalid_value', '/data_base64')
  await isRefused(t, app, `{${base},"data":null,"data_base64":"QQ=="}`, 'invalid_value', '/data_base64')
})

t.test('a time that does not exist or cannot be stored is rejected; any other is stored in UTC', async (t) => {
  for (const time of [
    '2026-02-30T00:00:00Z',
    '2025-02-29T00:00:00Z',
    '2026-13-01T00:00:00Z',
    '2026-01-31T24:00:00Z',
    '2016-12-31T23:59:60Z',
    '0000-01-01T00:00:00Z',
    '9999-12-31T23:59:59-00:01',
    '10000-01-01T00:00:00Z',
    '2026-01-31T12:00:00',
    '2026-01-31',
    '2026-01-31T12:00:00+24:00',
    'now',
    'infinity',
    '',
  ]) {
    await isRefused(t, app, JSON.stringify({ source: 's', type: 't', time }), 'invalid_time', '/time', `time ${time}`)
  }
  for (const [time, kept] of [
    ['9999-12-31T23:59:59.999999Z', '9999-12-31T23:59:59.999999Z'],
    ['0001-01-01T00:00:00Z', '0001-01-01T00:00:00Z'],
    ['2026-01-31T12:00:00+23:59', '2026-01-30T12:01:00Z'],
    ['2024-02-29t23:59:59.9999999z', '2024-02-29T23:59:59.999999Z'],
    ['2026-01-31T12:00:00.1200-05:30', '2026-01-31T17:30:00.12Z'],
  ] as const) {
    await isStored(t, app, JSON.stringify({ source: 's', type: 't', time }), { time: kept }, `time ${time}`)
  }
})

t.test('cursor and receivedAt are accepted in the form that the server writes, and ignored', async (t) => {
  const text = await isStored(t, app, `{${base},"id":"returned","data":{"n":1.50}}`, {})
  const { cursor } = JSON.parse(text)
  for (const body of [
    text,
    `{${base},"id":"returned","data":{"n":1.5},"cursor":"${cursor}"}`,
    `{${base},"id":"returned","data":{"n":1.5},"cursor":"${cursor}","receivedAt":"2001-01-01T00:00:00.5Z"}`,
    `{${base},"id":"returned","data":{"n":1.5},"receivedAt":null,"cursor":null}`,
  ]) {
    const response = await app.post(body)
    t.equal(response.status, 200, body)
    t.match(response.json.results, [{ status: 'duplicate', cursor }], body)
  }
  t.equal((await app.get('/v1/records/s/returned')).text, text, 'the stored record is unchanged')

  const copied = await isStored(
    t,
    app,
    `{${base},"id":"copied","receivedAt":"2001-01-01T00:00:00Z","cursor":"${cursor}"}`,
    {},
  )
  t.notMatch(copied, '2001-01-01', 'receivedAt is when this server received the record')
  t.not(JSON.parse(copied).cursor, cursor, 'cursor is the position of the record here')
})

// Any other value under these names would be lost silently.
t.test('a cursor or receivedAt in any other form is rejected', async (t) => {
  for (const value of ['"x"', '""', '5', 'true', '{}', '"2026-01-31"', `"${'A'.repeat(32)}"`]) {
    await isRefused(t, app, `{${base},"cursor":${value}}`, 'invalid_value', '/cursor')
    await isRefused(t, app, `{${base},"receivedAt":${value}}`, 'invalid_value', '/receivedAt')
  }
  const { cursor } = JSON.parse(await isStored(t, app, `{${base}}`, {}))
  const damaged = `${cursor.slice(0, -1)}${cursor.endsWith('A') ? 'B' : 'A'}`
  await isRefused(t, app, `{${base},"cursor":"${damaged}"}`, 'invalid_value', '/cursor')
  await isRefused(t, app, `{${base},"receivedAt":"${cursor}"}`, 'invalid_value', '/receivedAt')
  await isRefused(t, app, `{${base},"receivedAt":"yesterday","cursor":"${cursor}"}`, 'invalid_value', '/receivedAt')
  // It may be the client's own field: it was dropped without a word.
  await isRefused(t, app, `{${base},"receivedAt":"2001-01-01T00:00:00Z"}`, 'invalid_value', '/receivedAt')
})
