import fc from 'fast-check'
import t from 'tap'
import { parseJson, walkAtOnce } from '../../../src/lib/json/parse.ts'
import { Problem } from '../../../src/problems.ts'
import { createApp } from '../../helpers/app.ts'
import { jsonText } from '../../helpers/json-text.ts'
import { isProblem } from '../../helpers/problem.ts'

const { post, get } = await createApp(t)

const faultOf = (text: string): string => {
  try {
    parseJson(text)
  } catch (error) {
    if (error instanceof Problem && error.code === 'invalid_json') return error.message
    throw error
  }
  throw new Error(`no fault in ${text}`)
}

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
    t.match(response.json.detail, new RegExp(` ${location}\\.$`), `${location} in the detail`)
  }
})

t.test('the refusal of truncated JSON says that it ends too early, or where the error is', async (t) => {
  for (const body of ['{', '[', '{"a":1', '[1,', '{"a":', 'tru', ' ', '[{"a":"b']) {
    const response = await post(body)
    isProblem(t, response, 'invalid_json', { name: body })
    t.match(response.json.detail, /(it ends too early|the error is at line 1, column \d+)\.$/, body)
  }
})

t.test('the refusal quotes nothing of the body', async (t) => {
  for (const body of ['{"secret":oops}', '{"data":"secret', `["secret",${'"secret",'.repeat(99)}]`, '[secret]']) {
    const response = await post(body)
    t.equal(response.status, 400)
    t.notMatch(response.text, /secret|oops/)
  }
})

t.test('the location is the first character with which the text can no longer become JSON', (t) => {
  /** Whether the text is JSON or only cut short, according to V8's error message. */
  const isCutShort = (text: string) => {
    try {
      JSON.parse(text)
      return true
    } catch (error) {
      const { message } = error as SyntaxError
      const position = Number(/at position (\d+)/.exec(message)?.[1] ?? Number.NaN)
      return message.startsWith('Unexpected end') || position >= text.length
    }
  }
  fc.assert(
    fc.property(
      jsonText(),
      fc.nat(),
      fc.constantFrom(...'@x]}[{,:"1-\\nt'),
      fc.boolean(),
      (json, seed, char, insert) => {
        const at = seed % (json.length + 1)
        const text = json.slice(0, at) + char + json.slice(insert ? at : at + 1)
        try {
          JSON.parse(text)
          return true
        } catch {
          let end = 0
          while (end <= text.length && isCutShort(text.slice(0, end))) end++
          const before = text.slice(0, end - 1)
          const location = `line ${before.split('\n').length}, column ${end - 1 - before.lastIndexOf('\n')}.`
          const message = faultOf(text)
          return end > text.length ? /ends too early|line \d+, column \d+/.test(message) : message.endsWith(location)
        }
      },
    ),
    { numRuns: 3000 },
  )
  t.pass('3000 broken documents')
  t.end()
})

// The location was once found by searching the text for the part that V8 quotes, and parsing up to each occurrence. A body
// full of strings with the same part took hours, and no other request was answered meanwhile.
t.test('a body full of copies of its fault is refused with little processor time', (t) => {
  const fault = ',1,1,1,1,1,x,1,1,1,1,1'
  const text = `[${`"${fault}",`.repeat(20_000)}1${fault}]`
  const before = process.cpuUsage()
  t.match(faultOf(text), 'line 1,')
  const { user } = process.cpuUsage(before)
  t.ok(user < 5_000_000, `${user} µs of processor time`)
  t.end()
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

t.test('brackets in strings do not count as depth', (t) => {
  const deepest = (text: string) => walkAtOnce(text).deepest
  t.equal(deepest('[[[1]]]'), 3)
  t.equal(deepest('[[[{"a":1}]]]'), 4)
  t.equal(deepest('["[[[[", "\\"[[[[", "\\\\", [[1]], {}]'), 3)
  t.equal(deepest('["[[[[", "\\"[[[[", "\\\\", [[[1]]], {}]'), 4)
  t.equal(deepest('[[],[],[],[]]'), 2)
  t.equal(deepest('["[[[['), 1, 'an unclosed string')
  t.end()
})
