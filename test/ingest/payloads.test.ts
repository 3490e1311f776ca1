import t from 'tap'
import { MAX_DEPTH } from '../../src/lib/json/extent.ts'
import { createApp } from '../helpers/app.ts'
import { isRefused, isStored, shown } from '../helpers/refused.ts'

const app = await createApp(t)
const base = '"source":"s","type":"t"'

/** Asserts that a record with this payload is stored, and that the payload is read back as exactly the same text. */
async function isTextKept(t: Parameters<typeof isStored>[0], data: string): Promise<void> {
  const text = await isStored(t, app, `{${base},"data": ${data} }`, {}, shown(data))
  const start = text.indexOf('"data":') + '"data":'.length
  t.ok(text.startsWith(data, start) && text.startsWith(',"receivedAt"', start + data.length), `${shown(data)}: text`)
}

t.test('strings that PostgreSQL cannot store are rejected anywhere in data, with a pointer', async (t) => {
  for (const bad of [
    '\\u0000',
    'a\\u0000b',
    '\\ud800',
    'x\\uDFFF',
    '\\udc00\\ud800',
    '\\ud800\\u0041',
    '\\ud800\\ud800',
  ]) {
    for (const [data, pointer] of [
      [`"${bad}"`, '/data'],
      [`{"a":["x",{"b":"${bad}"}]}`, '/data/a/1/b'],
      [`[[],{},"x","${bad}"]`, '/data/3'],
      [`{"a/b":{"~":"${bad}"}}`, '/data/a~1b/~0'],
    ]) {
      await isRefused(t, app, `{${base},"data":${data}}`, 'unstorable_string', pointer as string)
    }
  }
  await isRefused(t, app, `{${base},"data":{"ok":1,"a\\u0000":2}}`, 'unstorable_string', '/data/a\u0000')
  await isRefused(t, app, `{${base},"data":{"\\udc00":2}}`, 'unstorable_string', '/data/\ufffd')
})

// A search for the escape in the text would reject these texts, and replacing it there would break them.
t.test('an escaped backslash before u0000 is ordinary text', async (t) => {
  for (const data of ['"\\\\u0000"', '"\\\\\\\\u0000"', '{"\\\\ud800":"\\\\udc00"}', '"\\\\\\u0041\\\\u0000"']) {
    await isTextKept(t, data)
  }
  await isRefused(t, app, `{${base},"data":"\\\\\\u0000"}`, 'unstorable_string', '/data')
})

t.test('text with surrogate pairs, noncharacters, controls and escapes is read back unchanged', async (t) => {
  for (const data of [
    '"\\ud83e\\udd80"',
    '"\u{1f980}"',
    '"\\uffff\\ufdd0\u{1fffe}"',
    '"\\u0001\\b\\f\\n\\r\\t\\/\\"\\\\"',
    '"\u2028\u2029\u007f\u0085"',
    '"caf\u00e9 cafe\u0301"',
    '{"":1," ":2,"\u{1f980}":3}',
  ]) {
    await isTextKept(t, data)
  }
})

t.test('numbers are read back with exactly the same digits', async (t) => {
  for (const data of [
    '-0',
    '-0.0',
    '9007199254740993',
    '12345678901234567890',
    '-18446744073709551617',
    '1'.repeat(200),
    `0.${'1'.repeat(200)}`,
    '0.1000000000000000055',
    '1.0',
    '1.50e+3',
    '1E400',
    '1e-400',
    '0e5',
    '9'.repeat(5000),
    '[1,1.0,1e0,10e-1]',
    '{"n":-0,"n2":[-0.0e-0]}',
  ]) {
    await isTextKept(t, data)
  }
})

t.test('numbers beyond the range of numeric are rejected with a pointer', async (t) => {
  for (const number of [
    '1e400000',
    '-1e400000',
    '1e-400000',
    '1e99999999999',
    '1e131072',
    '1e-16384',
    '0e9999999999',
  ]) {
    await isRefused(t, app, `{${base},"data":${number}}`, 'unstorable_number', '/data')
    await isRefused(t, app, `{${base},"data":{"a":[0,${number}]}}`, 'unstorable_number', '/data/a/1')
  }
  await isRefused(t, app, `{${base},"data":[${'9'.repeat(131_073)}]}`, 'unstorable_number', '/data/0')
  await isRefused(t, app, `{${base},"data":[0.${'0'.repeat(16_384)}]}`, 'unstorable_number', '/data/0')
})

t.test('__proto__ in data is an ordinary name', async (t) => {
  await isTextKept(t, '{"__proto__":{"polluted":true},"constructor":{"prototype":1}}')
  t.notOk('polluted' in {}, 'Object.prototype is unchanged')
})

t.test('repeated names in data are stored unchanged', async (t) => {
  await isTextKept(t, '{"a":1,"a":2,"b":{"c":1,"c":1}}')
})

t.test('data may be nested up to a depth that PostgreSQL can search, and no deeper', async (t) => {
  const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`
  const objects = (depth: number) => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`
  await isTextKept(t, nested(MAX_DEPTH))
  await isTextKept(t, objects(MAX_DEPTH))
  await isRefused(t, app, `{${base},"data":${nested(MAX_DEPTH + 1)}}`, 'too_deep', '/data')
  await isRefused(t, app, `{${base},"data":${objects(MAX_DEPTH + 1)}}`, 'too_deep', '/data')
  await isRefused(t, app, `{${base},"data":${nested(10_000)}}`, 'too_deep', '/data')
  t.equal((await app.get('/v1/records?limit=1000&data=[]')).status, 200, 'PostgreSQL can search all of it')
})

// Depth was once checked for the whole body, so one record that was too deep made a large batch fail.
t.test('a record that is nested too deeply in a large batch is rejected alone', async (t) => {
  const large = `{${base},"id":"large","data":"${'x'.repeat(500_000)}"}`
  const response = await app.post(`[${large},{${base},"data":${'['.repeat(10_000)}${']'.repeat(10_000)}}]`)
  t.equal(response.status, 207)
  t.match(response.json.results, [{ status: 'created' }, { index: 1, error: { pointer: '/data', code: 'too_deep' } }])
})
