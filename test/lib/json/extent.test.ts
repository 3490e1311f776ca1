import fc from 'fast-check'
import t from 'tap'
import { findExtent } from '../../../src/lib/json/extent.ts'
import { jsonText } from '../../helpers/json-text.ts'

const extentOf = (text: string, start = 0) => findExtent(text, start, text.length)
/** Matches numbers with a fraction or an exponent, U+0000 and surrogates: a text with these may not be plain. */
const UNUSUAL = /\d[.eE]|\\u(?:0000|[dD])/

t.test('the extent of any plain object has the bounds of its text and of its payload', (t) => {
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
        if (extent === undefined) return UNUSUAL.test(text)
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
  for (const text of ['{"a":[1,2,3],"data":{"b":"c"}}', '{"a}":"}","b":-15}', '{ }']) {
    for (let limit = 0; limit <= text.length + 1; limit++) {
      t.equal(findExtent(text, 0, limit)?.end, limit < text.length ? undefined : text.length, `${text} up to ${limit}`)
    }
  }
  t.end()
})

t.test('measuring any text comes to an end, even if it is not JSON', (t) => {
  const piece = fc.constantFrom(...'{}[]",:\\|~1-te \u00e9', '"data":', '\\"')
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      const text = pieces.join('')
      findExtent(text, 0, text.length)
      return true
    }),
    { numRuns: 5000 },
  )
  t.pass('5000 texts')
  t.end()
})

function space(): fc.Arbitrary<string> {
  return fc.string({ unit: fc.constantFrom(' ', '\n', '\r', '\t'), maxLength: 3 })
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
