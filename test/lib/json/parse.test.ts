import fc from 'fast-check'
import t from 'tap'
import { parseJson, walkAtOnce } from '../../../src/lib/json/parse.ts'
import { Problem } from '../../../src/problems.ts'
import { jsonText } from '../../helpers/json-text.ts'

const faultOf = (text: string): string => {
  try {
    parseJson(text)
  } catch (error) {
    if (error instanceof Problem && error.code === 'invalid_json') return error.message
    throw error
  }
  throw new Error(`no fault in ${text}`)
}

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
          return end > text.length ? /ends too early|line \d+, column \d+/.test(message) : message.includes(location)
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
