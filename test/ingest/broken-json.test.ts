import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { isProblem } from '../helpers/problem.ts'

const { post, get } = await createApp(t)

t.test('broken JSON is refused with the line and the column of the error', async (t) => {
  for (const [body, location] of [
    ['{"source":"s",\n "type":oops}', 'line 2, column 9'],
    ['[1,]', 'line 1, column 4'],
    ['[{}\r\n,\r\n,{}]', 'line 3, column 1'],
    ['{"a":}', 'line 1, column 6'],
    ['{"a":tru}', 'line 1, column 9'],
    ['[nul,1]', 'line 1, column 5'],
    ['[falsy]', 'line 1, column 6'],
    ['{"a" 1}', 'line 1, column 6'],
    ['{a:1}', 'line 1, column 2'],
    ["{'a':1}", 'line 1, column 2'],
    ['{"a":1,}', 'line 1, column 8'],
    ['{"a":1}}', 'line 1, column 8'],
    ['{} {}', 'line 1, column 4'],
    ['[01]', 'line 1, column 3'],
    ['[NaN]', 'line 1, column 2'],
    ['[-Infinity]', 'line 1, column 3'],
    ['["a\nb"]', 'line 1, column 4'],
    ['["\\x"]', 'line 1, column 4'],
    ['\ufeff\ufeff{}', 'line 1, column 1'],
    ['{\ufeff}', 'line 1, column 2'],
    ['[object Object]', 'line 1, column 2'],
    [',', 'line 1, column 1'],
    ['["at position 99",x]', 'line 1, column 19'],
    [`[[${'1,\n'.repeat(50_000)}x]]`, 'line 50001, column 1'],
    [`["${'x'.repeat(70_000)}",\n\n   @${',1'.repeat(50)}]`, 'line 3, column 4'],
  ]) {
    const response = await post(body)
    isProblem(t, response, 'invalid_json', { name: location as string })
    t.match(response.json.detail, new RegExp(` ${location}\\.`), `${location} in the detail`)
  }
})

t.test('the refusal of truncated JSON says that it ends too early, or where the error is', async (t) => {
  for (const body of ['{', '[', '{"a":1', '[1,', '{"a":', 'tru', ' ', '[{"a":"b']) {
    const response = await post(body)
    isProblem(t, response, 'invalid_json', { name: body })
    t.match(response.json.detail, /(it ends too early|the error is at line 1, column \d+)\./, body)
  }
})

t.test('the refusal quotes nothing of the body', async (t) => {
  for (const body of ['{"secret":oops}', '{"data":"secret', `["secret",${'"secret",'.repeat(99)}]`, '[secret]']) {
    const response = await post(body)
    t.equal(response.status, 400)
    t.notMatch(response.text, /secret|oops/)
  }
})

t.test('16 MiB of opening brackets are refused as too deep', async (t) => {
  const response = await post('['.repeat(16 * 1024 * 1024))
  isProblem(t, response, 'too_deep')
  isProblem(t, await post('{"a":'.repeat(3_000_000)), 'body_too_large', { name: 'as a single record' })
  isProblem(t, await post(`[${'{"a":'.repeat(3_000_000)}`), 'too_deep', { name: 'as objects' })
})

// Shallow arrays were parsed: 5 million of them take more memory than the process may use, so it crashed.
t.test('millions of shallow arrays or objects are refused, as a batch and in one record', async (t) => {
  const nested = `${'['.repeat(500)}${']'.repeat(500)}`
  for (const [name, element] of [
    ['arrays', '[]'],
    ['objects', '{}'],
    ['nested arrays', nested],
    ['objects with a member', '{"a":1}'],
  ] as const) {
    const elements = `${`${element},`.repeat(16_000_000 / (element.length + 1))}1`
    isProblem(t, await post(`[${elements}]`), 'too_many_records', { name })
    const response = await post(`[{"source":"pile","type":"t","id":"${name}"},{"data":[${elements}]}]`)
    t.equal(response.status, 207, `${name} in one record`)
    t.match(response.json.results, [{ status: 'created' }, { error: { code: 'record_too_large' } }], name)
  }
})

t.test('10,000 nested arrays are rejected as one record', async (t) => {
  isProblem(t, await post('['.repeat(10_000) + ']'.repeat(10_000)), 'rejected')
  const body = `[{"source":"deep","type":"t","id":"1"},${'['.repeat(10_000)}${']'.repeat(10_000)}]`
  t.equal((await post(body)).status, 207)
  t.equal((await get('/v1/records/deep/1')).status, 200)
})
