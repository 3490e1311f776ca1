import fc from 'fast-check'
import t from 'tap'
import { findExtents, findRepeatedName, MAX_DEPTH } from '../../src/ingest/json.ts'
import { findUnstorable } from '../../src/ingest/storable.ts'
import { jsonText } from '../helpers/json-text.ts'

t.test('the extents of any array are the texts of its elements, and their payloads', (t) => {
  fc.assert(
    fc.property(
      fc.array(jsonText({ unstorable: true }), { maxLength: 4 }),
      space(),
      space(),
      (texts, before, after) => {
        const body = `${before}[${texts.map((text) => before + text + after).join()}${after}]${after}`
        const extents = findExtents(body)
        if (extents.length !== texts.length) return false
        return extents.every(({ start, end, dataStart, dataEnd, members }, index) => {
          const text = texts[index] as string
          const value = JSON.parse(text)
          const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
          const data = isObject && Object.hasOwn(value, 'data') ? value.data : undefined
          const slice = body.slice(dataStart, dataEnd)
          return (
            body.slice(start, end) === text.trim() &&
            (data === undefined ? dataEnd === 0 : same(JSON.parse(slice), data) && slice.trim() === slice) &&
            (isObject ? members >= Object.keys(value).length : members === 0)
          )
        })
      },
    ),
    { numRuns: 1000 },
  )
  t.pass('1000 arrays')
  t.end()
})

t.test('the extent of a body that is no array is all of it but the white space', (t) => {
  fc.assert(
    fc.property(jsonText({ unstorable: true }), space(), space(), (text, before, after) => {
      if (text.trim().startsWith('[')) return true
      const [extent, ...more] = findExtents(before + text + after)
      return more.length === 0 && (before + text + after).slice(extent?.start, extent?.end) === text.trim()
    }),
    { numRuns: 500 },
  )
  t.pass('500 documents')
  t.end()
})

t.test('what is not marked suspicious needs no closer look', (t) => {
  fc.assert(
    fc.property(jsonText({ unstorable: true }), (data) => {
      const [extent] = findExtents(`{"data":${data}}`)
      return extent?.suspicious === true || findUnstorable(data, '') === undefined
    }),
    { numRuns: 2000 },
  )
  t.pass('2000 documents')
  t.end()
})

t.test('members count each occurrence of a name', (t) => {
  const membersOf = (text: string) => findExtents(text)[0]?.members
  t.equal(membersOf('{}'), 0)
  t.equal(membersOf('{ "a" : 1 , "a" : {"b":1,"c":2} }'), 2)
  t.equal(membersOf('{"__proto__":1}'), 1)
  t.equal(findRepeatedName(' {"a":{"b":1,"b":2},"c":"a","\\u0063" : 1}', 1), 'c')
  t.end()
})

t.test('only the payload counts as too deep', (t) => {
  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)
  const tooDeep = (text: string) => findExtents(text)[0]?.tooDeep
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
