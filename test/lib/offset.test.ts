import fc from 'fast-check'
import t from 'tap'
import { decodeOffset, encodeOffset, type Position } from '../../src/lib/offset.ts'

const position = () =>
  fc.record({
    epoch: fc.integer({ min: 1, max: 0x7fffffff }),
    xid: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(String),
    n: fc.maxSafeNat(),
  })

t.test('an offset decodes to its position, and has 49 characters that need no encoding in a URL', (t) => {
  fc.assert(
    fc.property(position(), (position) => {
      const offset = encodeOffset(position)
      t.same(decodeOffset(offset), position)
      t.match(offset, /^1[\da-f]{48}$/)
    }),
  )
  t.end()
})

t.test('as texts, offsets sort in feed order', (t) => {
  const compare = (a: Position, b: Position) => a.epoch - b.epoch || Number(BigInt(a.xid) - BigInt(b.xid)) || a.n - b.n
  const near = fc.record({
    epoch: fc.integer({ min: 1, max: 2 }),
    xid: fc.constantFrom('9', '10', '255', '256', '4294967296', '18446744073709551615'),
    n: fc.constantFrom(0, 9, 10, 255, 256, 2 ** 32, 2 ** 53 - 1),
  })
  fc.assert(
    fc.property(fc.oneof(position(), near), fc.oneof(position(), near), (a, b) => {
      const [one, other] = [encodeOffset(a), encodeOffset(b)]
      t.equal(Math.sign(compare(a, b)), one < other ? -1 : one > other ? 1 : 0)
    }),
  )
  t.end()
})

t.test('an offset with one character changed, removed or added is invalid', (t) => {
  fc.assert(
    fc.property(position(), fc.nat(48), fc.constantFrom(...'09afAZ-_=+/ \u00e9'), (position, at, char) => {
      const offset = encodeOffset(position)
      const changed = offset.slice(0, at) + char + offset.slice(at + 1)
      t.same(decodeOffset(changed), changed === offset ? position : undefined)
      t.equal(decodeOffset(offset.slice(0, at) + offset.slice(at + 1)), undefined)
      t.equal(decodeOffset(offset.slice(0, at) + char + offset.slice(at)), undefined)
    }),
  )
  t.end()
})

t.test('a well-formed offset beyond the limits of PostgreSQL is invalid', (t) => {
  t.equal(decodeOffset(encodeOffset({ epoch: 0x80000000, xid: '1', n: 1 })), undefined)
  t.same(decodeOffset(encodeOffset({ epoch: 1, xid: '18446744073709551615', n: 2 ** 53 - 1 })), {
    epoch: 1,
    xid: '18446744073709551615',
    n: 2 ** 53 - 1,
  })
  t.equal(decodeOffset(encodeOffset({ epoch: 1, xid: '1', n: 2 ** 53 })), undefined)
  t.equal(decodeOffset(''), undefined)
  t.end()
})
