import fc from 'fast-check'
import t from 'tap'
import { decodeCursor, encodeCursor } from '../../src/lib/cursor.ts'

const position = () =>
  fc.record({
    epoch: fc.integer({ min: 1, max: 0x7fffffff }),
    xid: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(String),
    n: fc.maxSafeNat(),
  })

t.test('a cursor decodes to its position, and has 32 characters that need no encoding in a URL', (t) => {
  fc.assert(
    fc.property(position(), (position) => {
      const cursor = encodeCursor(position)
      t.same(decodeCursor(cursor), position)
      t.match(cursor, /^[\w-]{32}$/)
    }),
  )
  t.end()
})

t.test('a cursor with one character changed, removed or added is invalid', (t) => {
  fc.assert(
    fc.property(position(), fc.nat(31), fc.constantFrom(...'AZaz09-_=+/ \u00e9'), (position, at, char) => {
      const cursor = encodeCursor(position)
      const changed = cursor.slice(0, at) + char + cursor.slice(at + 1)
      t.same(decodeCursor(changed), changed === cursor ? position : undefined)
      t.equal(decodeCursor(cursor.slice(0, at) + cursor.slice(at + 1)), undefined)
      t.equal(decodeCursor(cursor.slice(0, at) + char + cursor.slice(at)), undefined)
    }),
  )
  t.end()
})

t.test('a well-formed cursor beyond the limits of PostgreSQL is invalid', (t) => {
  t.equal(decodeCursor(encodeCursor({ epoch: 0x80000000, xid: '1', n: 1 })), undefined)
  t.same(decodeCursor(encodeCursor({ epoch: 1, xid: '18446744073709551615', n: 2 ** 53 - 1 })), {
    epoch: 1,
    xid: '18446744073709551615',
    n: 2 ** 53 - 1,
  })
  t.equal(decodeCursor(encodeCursor({ epoch: 1, xid: '1', n: 2 ** 53 })), undefined)
  t.equal(decodeCursor(''), undefined)
  t.end()
})
