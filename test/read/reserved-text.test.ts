import t from 'tap'
import { ReservedText } from '../../src/read/reserved-text.ts'

t.test('memory is reserved before it is allocated, and text that does not fit is refused', async (t) => {
  const held: number[] = []
  const text = new ReservedText((bytes) => {
    if (bytes > 200) throw new Error('too many')
    held.push(bytes)
  })
  text.reserve(10)
  text.add('\u{20ac}'.repeat(3))
  t.same(held, [10, 10], 'in bytes, not in characters')
  text.add('ab')
  t.same(held, [10, 10, 30, 20], 'while it grows, the old memory counts as well')
  t.throws(() => text.reserve(190), { message: 'too many' })
  t.equal(text.finish().toString(), '\u{20ac}\u{20ac}\u{20ac}ab')
})
