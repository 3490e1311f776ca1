import t from 'tap'
import { BatchSize } from '../../src/stats/batch-size.ts'

/** Takes this long per thousand records. */
const counting = (msPerThousand: number) => {
  const limits: number[] = []
  const count = async (limit: number) => {
    limits.push(limit)
    const end = performance.now() + (limit * msPerThousand) / 1000
    while (performance.now() < end);
    return limit
  }
  return { limits, count }
}

t.test('a batch grows while it is fast, and shrinks when it is slow', async (t) => {
  const size = new BatchSize()
  const fast = counting(1)
  for (let n = 0; n < 6; n++) t.match(await size.run(fast.count), { isFull: true })
  t.same(fast.limits, [2000, 4000, 8000, 16_000, 20_000, 20_000])
  const slow = counting(50)
  for (let n = 0; n < 3; n++) await size.run(slow.count)
  t.equal(slow.limits[1], 5000, 'to a quarter at most')
  t.ok((slow.limits[2] as number) <= 2000)
})

t.test('a batch that is not full says nothing about larger ones', async (t) => {
  const size = new BatchSize()
  t.same(await size.run(async () => 5), { counted: 5, isFull: false })
  t.same(await size.run(async () => undefined), { counted: undefined, isFull: false })
  t.same(await size.run(async (limit) => limit), { counted: 2000, isFull: true })
})

t.test('after a failure, the next batch is small', async (t) => {
  const size = new BatchSize()
  await t.rejects(
    size.run(async () => {
      throw new Error('too slow')
    }),
    { message: 'too slow' },
  )
  t.same(await size.run(async (limit) => limit), { counted: 100, isFull: true })
})
