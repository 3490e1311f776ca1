import fc from 'fast-check'
import t from 'tap'
import { outlineElement, parseElement, parseOutermost } from '../../../src/lib/json/elements.ts'
import { findExtent, MAX_DEPTH } from '../../../src/lib/json/extent.ts'
import { walkAtOnce } from '../../../src/lib/json/parse.ts'
import { jsonText } from '../../helpers/json-text.ts'

const extentOf = (text: string) => findExtent(text, 0, text.length)
const outline = (text: string) => outlineElement(text, text.indexOf('{'), walkAtOnce(text))
/** Ignores unstorable values of attributes, because the checks of the attributes find them. */
const isUnusual = ({ unusual }: ReturnType<typeof outline>) =>
  unusual?.tooDeep ||
  unusual?.repeated !== undefined ||
  unusual?.fractional !== undefined ||
  unusual?.unstorable?.pointer.startsWith('/data') === true

// There are two ways to read a record: a large or unusual one is walked, and its payload is never built; a plain one is parsed.
t.test('the outline of a record agrees with the parsed record', (t) => {
  const member = fc.tuple(
    fc.constantFrom('"data"', '"d\\u0061ta"', '"source"', '"a"', '"\\u0061"', '"b"'),
    fc.oneof(jsonText({ unstorable: true, maxDepth: 2 }), fc.constantFrom('1.5', '[1]', '1e2', '-0')),
  )
  let plain = 0
  fc.assert(
    fc.property(fc.array(member, { maxLength: 5 }), space(), (members, gap) => {
      const text = `{${gap}${members.map(([name, value]) => `${name}${gap}:${gap}${value}${gap}`).join()}}`
      const value: Record<string, unknown> = JSON.parse(text)
      const [walked, parsed] = [outline(text), parseElement(text, 0)]
      if (parsed !== undefined) plain++
      const outlined = Object.entries(value).map(([name, value]) => [
        name,
        name === 'data' ? null : typeof value === 'object' && value !== null ? [] : value,
      ])
      const { dataStart, dataEnd } = walked.extent
      return (
        (parsed === undefined || (same(parsed, { value, extent: walked.extent }) && !isUnusual(walked))) &&
        same(walked.value, Object.fromEntries(outlined)) &&
        (walked.unusual?.repeated !== undefined) === members.length > Object.keys(value).length &&
        (dataEnd > 0 ? same(JSON.parse(text.slice(dataStart, dataEnd)), value.data) : !Object.hasOwn(value, 'data'))
      )
    }),
    { numRuns: 3000 },
  )
  t.ok(plain > 500 && plain < 2500, `3000 records, ${plain} of them plain`)
  t.end()
})

t.test('a record that is parsed at once is storable', (t) => {
  let plain = 0
  fc.assert(
    fc.property(jsonText({ unstorable: true }), (data) => {
      if (parseElement(`{"data":${data}}`, 0) === undefined) return true
      plain++
      return walkAtOnce(data).unstorable === undefined
    }),
    { numRuns: 2000 },
  )
  t.ok(plain > 500, `2000 documents, ${plain} of them plain`)
  t.end()
})

// nodejs/node#63785: once a parsed object had a name such as \u, V8 reads the name \u0062 as \u in objects that begin alike. One
// sender's record made those of others fail.
t.test('a name with escapes is right, whatever was parsed before', (t) => {
  const text = '{"first":1,"\\u0062":2,"d\\u0061ta":3}'
  for (const name of ['\\', 'd\\u0']) JSON.parse(JSON.stringify({ first: 1, [name]: 1 }))
  for (const name of ['\\', 'b']) JSON.parse(JSON.stringify({ first: 1, [name]: 1, 'd\\u0': 1 }))
  t.equal(parseElement(text, 0), undefined, 'it is not parsed at once')
  t.match(outline(text), { value: { first: 1, b: 2, data: null }, unusual: { repeated: undefined } })
  t.equal(outline('{"first":1,"\\u0062":2,"b":3}').unusual?.repeated, 'b')
  t.same(Object.keys(outline('{"first":1,"\\"":2,"__proto__":3}').value as object), ['first', '"', '__proto__'])
  t.same(parseOutermost(JSON.parse(text), text), { first: 1, b: 2, data: 3 })
  for (const other of ['["\\\\"]', '"\\\\"', 'null', '{"a":"\\\\"}', '{"\\\\":[1]}'])
    t.same(parseOutermost(JSON.parse(other), other), JSON.parse(other))
  t.end()
})

t.test('only a number that may be out of range is not plain', (t) => {
  const digits = '9'.repeat(4090)
  for (const number of [`${digits}e99999`, `0.${digits.slice(4)}e-9999`, `-${digits}.1`])
    t.match(parseElement(`{"data":${number}}`, 0), { value: {} }, number.slice(-9))
  for (const number of ['1e100000', '1e-10000', `${digits}.1e9999`])
    t.equal(parseElement(`{"data":[${number}]}`, 0), undefined, number.slice(-9))
  for (const number of [`${digits}e99999`, `0.${digits.slice(4)}e-9999`])
    t.equal(walkAtOnce(number).unstorable, undefined)
  t.end()
})

t.test('each occurrence of a name counts as a member', (t) => {
  const membersOf = (text: string) => extentOf(text)?.members
  t.equal(membersOf('{}'), 0)
  t.equal(membersOf('{ "a" : 1 , "a" : {"b":1,"c":2} }'), 2)
  t.equal(membersOf('{"__proto__":1}'), 1)
  const repeated = ' {"a":{"b":1,"b":2},"c":"a","\\u0063" : 1,"a":2}'
  t.equal(outline(repeated).unusual?.repeated, 'c')
  t.equal(parseElement(repeated, 1), undefined, 'it is not parsed at once')
  t.end()
})

t.test('a walk names the last attribute whose number is not an integer, even if the name has escapes', (t) => {
  const fractional = (text: string) => outline(text).unusual?.fractional
  t.equal(fractional('{"a":1.0,"\\u0062" : 1e0,"data":1.5,"c":[1.5],"d":"1.5","e":15}'), 'b')
  t.equal(fractional('{"data":1.5,"c":15}'), undefined)
  for (const text of ['{"a":1.0}', '{"a":1e0}', '{"a":-0.5,"data":1}']) t.equal(parseElement(text, 0), undefined, text)
  t.match(parseElement('{"a":15,"data":1.5}', 0), { value: { a: 15, data: 1.5 } })
  t.end()
})

t.test('only the payload can be too deep', (t) => {
  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)
  const tooDeep = (text: string) => outline(text).unusual?.tooDeep
  t.equal(tooDeep(`{"data":${nested(MAX_DEPTH)}}`), false)
  t.equal(tooDeep(`{"data":${nested(MAX_DEPTH + 1)},"a":1}`), true)
  t.equal(tooDeep(`{"a":${nested(MAX_DEPTH + 1)},"data":[]}`), false)
  t.not(extentOf(`{"data":${nested(MAX_DEPTH)}}`), undefined)
  t.equal(extentOf(`{"data":${nested(MAX_DEPTH + 1)},"a":1}`), undefined, 'it is not plain')
  t.not(extentOf(`{"data":[${'[],'.repeat(MAX_DEPTH + 1)}[]]}`), undefined, 'wide is not deep')
  t.end()
})

function space(): fc.Arbitrary<string> {
  return fc.string({ unit: fc.constantFrom(' ', '\n', '\r', '\t'), maxLength: 3 })
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
