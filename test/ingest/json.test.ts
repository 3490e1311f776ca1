import fc from 'fast-check'
import t from 'tap'
import { outlineElement, parseElement } from '../../src/ingest/elements.ts'
import { findRepeatedName, MAX_DEPTH, measure } from '../../src/ingest/json.ts'
import { JsonWalk } from '../../src/ingest/json-walk.ts'
import { findUnstorable } from '../../src/ingest/storable.ts'
import { jsonText } from '../helpers/json-text.ts'

const extentOf = (text: string, start = 0) => measure(text, start, text.length)

t.test('the extent of any object has the bounds of its text and of its payload', (t) => {
  fc.assert(
    fc.property(
      jsonText({ unstorable: true }),
      space(),
      fc.constantFrom(',', ']', '', ' ,{"data":1}'),
      (json, before, after) => {
        const text = json.trim()
        if (!text.startsWith('{')) return true
        const body = `[${before}${text}${after}`
        const extent = extentOf(body, before.length + 1)
        if (extent === undefined) return false
        const { start, end, dataStart, dataEnd, members } = extent
        const value = JSON.parse(text)
        const data = Object.hasOwn(value, 'data') ? value.data : undefined
        const slice = body.slice(dataStart, dataEnd)
        return (
          body.slice(start, end) === text &&
          (data === undefined ? dataEnd === 0 : same(JSON.parse(slice), data) && slice.trim() === slice) &&
          members >= Object.keys(value).length
        )
      },
    ),
    { numRuns: 5000 },
  )
  t.pass('5000 values')
  t.end()
})

t.test('an object that does not end before the limit has no extent', (t) => {
  for (const text of ['{"a":[1,2,3],"data":{"b":"c"}}', '{"a}":"}","b":-1.5}', '{ }']) {
    for (let limit = 0; limit <= text.length + 1; limit++) {
      t.equal(measure(text, 0, limit)?.end, limit < text.length ? undefined : text.length, `${text} up to ${limit}`)
    }
  }
  t.end()
})

t.test('measuring any text comes to an end, even if it is not JSON', (t) => {
  const piece = fc.constantFrom(...'{}[]",:\\|~1-te \u00e9', '"data":', '\\"')
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      const text = pieces.join('')
      measure(text, 0, text.length)
      return true
    }),
    { numRuns: 5000 },
  )
  t.pass('5000 texts')
  t.end()
})

// There are two ways to read a record: a large one is walked, and its payload is never built; a small one is parsed.
t.test('the outline of a record agrees with the parsed record', (t) => {
  const member = fc.tuple(
    fc.constantFrom('"data"', '"d\\u0061ta"', '"source"', '"a"', '"\\u0061"', '"b"'),
    fc.oneof(jsonText({ unstorable: true, maxDepth: 2 }), fc.constantFrom('1.5', '[1]', '1e2', '-0')),
  )
  fc.assert(
    fc.property(fc.array(member, { maxLength: 5 }), space(), (members, gap) => {
      const text = `{${gap}${members.map(([name, value]) => `${name}${gap}:${gap}${value}${gap}`).join()}}`
      const walk = new JsonWalk(text, 0)
      walk.run(text.length + 1)
      const [walked, parsed] = [outlineElement(text, 0, walk), parseElement(text, 0)]
      if (walk.fault !== undefined || parsed === undefined) return false
      const outlined = Object.entries(parsed.value as object).map(([name, value]) => [
        name,
        name === 'data' ? null : typeof value === 'object' && value !== null ? [] : value,
      ])
      return (
        same({ ...parsed.extent, suspicious: false }, walked.extent) &&
        walked.repeated === parsed.repeated &&
        same(walked.value, Object.fromEntries(outlined))
      )
    }),
    { numRuns: 3000 },
  )
  t.pass('3000 records')
  t.end()
})

t.test('a payload that is not marked suspicious is storable', (t) => {
  fc.assert(
    fc.property(jsonText({ unstorable: true }), (data) => {
      return extentOf(`{"data":${data}}`)?.suspicious === true || findUnstorable(data, '') === undefined
    }),
    { numRuns: 2000 },
  )
  t.pass('2000 documents')
  t.end()
})

t.test('each occurrence of a name counts as a member', (t) => {
  const membersOf = (text: string) => extentOf(text)?.members
  t.equal(membersOf('{}'), 0)
  t.equal(membersOf('{ "a" : 1 , "a" : {"b":1,"c":2} }'), 2)
  t.equal(membersOf('{"__proto__":1}'), 1)
  t.equal(findRepeatedName(' {"a":{"b":1,"b":2},"c":"a","\\u0063" : 1}', 1), 'c')
  t.end()
})

t.test('only the payload can be too deep', (t) => {
  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)
  const tooDeep = (text: string) => extentOf(text)?.tooDeep
  t.equal(tooDeep(`{"data":${nested(MAX_DEPTH)}}`), false)
  t.equal(tooDeep(`{"data":${nested(MAX_DEPTH + 1)},"a":1}`), true)
  t.equal(tooDeep(`{"a":${nested(MAX_DEPTH + 1)},"data":[]}`), false)
  t.equal(tooDeep(`{"data":[${'[],'.repeat(MAX_DEPTH + 1)}[]]}`), false, 'wide is not deep')
  t.end()
})

function space(): fc.Arbitrary<string> {
  return fc.string({ unit: fc.constantFrom(' ', '\n', '\r', '\t'), maxLength: 3 })
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
