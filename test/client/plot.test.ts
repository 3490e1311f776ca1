import fc from 'fast-check'
import t from 'tap'
import { plot } from '../../src/client/plot.ts'

t.test('a plot has a column per value, and what is above 0 is visible', (t) => {
  t.same(plot([0, 1, 8, 4], 10, 1), { lines: [' ▁█▄'], perColumn: 1, highest: 8 })
  t.same(plot([0, 1000, 1], 10, 2).lines, [' █ ', ' █▁'])
  t.same(plot([1, 1, 2, 2], 2, 1), { lines: ['▄█'], perColumn: 2, highest: 4 }, 'neighbours are added')
  t.same(plot([1, 1, 5], 2, 1), { lines: ['▃█'], perColumn: 2, highest: 5 }, 'the last column may have fewer')
  t.same(plot([], 10, 2), { lines: ['', ''], perColumn: 1, highest: 0 })
  t.same(plot([0, 0], 10, 1), { lines: ['  '], perColumn: 1, highest: 0 })
  t.end()
})

t.test('whatever the values, a plot fits, and shows which columns have something', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(1e9)),
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 1, max: 5 }),
      (values, width, height) => {
        const { lines, highest } = plot(values, width, height)
        t.equal(lines.length, height)
        const columns = lines[height - 1] as string
        t.ok(columns.length <= width)
        t.ok(lines.every((line) => line.length === columns.length))
        const perColumn = Math.max(1, Math.ceil(values.length / width))
        for (const [at, character] of [...columns].entries())
          t.equal(
            character === ' ',
            values.slice(at * perColumn, (at + 1) * perColumn).every((value) => value === 0),
          )
        t.equal(lines.join('').includes('█'), highest > 0)
      },
    ),
    { numRuns: 200 },
  )
  t.end()
})
