import fc from 'fast-check'
import t from 'tap'
import type { FeedFilter } from '../../src/feed/feed-filter.ts'
import { RecentRecords } from '../../src/feed/recent-records.ts'
import { makeRecord, numbersIn, offsetOf, selecting } from '../helpers/feed.ts'

const ALL = selecting()
const MANY = { limit: 1000, maxBytes: 2 ** 30 }
const SIZE = makeRecord(1).line.length

const recordsFrom = (first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, index) => makeRecord(first + index))

/** Has room for this many records. Records 1 to `last` were added. */
function fill(last: number, room = 1000): RecentRecords {
  const recent = new RecentRecords(room * SIZE)
  recent.reset(offsetOf(0))
  recent.add(recordsFrom(1, last), offsetOf(last))
  recent.setUpToDate(true)
  return recent
}

t.test('before its first reset, nothing can be read', async (t) => {
  t.equal(new RecentRecords(1000).read(ALL, offsetOf(0), MANY), undefined)
})

t.test('a page contains the records after an offset, and is up to date at the head', async (t) => {
  const recent = fill(5)
  const read = (after: number) => recent.read(ALL, offsetOf(after), MANY)
  t.same(numbersIn(read(0)?.lines), [1, 2, 3, 4, 5])
  t.same(numbersIn(read(3)?.lines), [4, 5])
  for (const after of [0, 3, 5]) t.match(read(after), { next: offsetOf(5), upToDate: true })
  t.equal(read(5)?.lines, '')
})

// After a failover, a reader continued from the offset of a lost record, and missed the records that took its place.
t.test('an offset that belongs to no record is not known, except those of the start and of the head', async (t) => {
  const recent = new RecentRecords(1000)
  recent.reset(offsetOf(0))
  recent.add([makeRecord(2), makeRecord(5)], offsetOf(7))
  const known = [0, 1, 2, 3, 4, 5, 6, 7, 8].filter((n) => recent.read(ALL, offsetOf(n), MANY) !== undefined)
  t.same(known, [0, 2, 5, 7])
  recent.add([makeRecord(8)], offsetOf(8))
  t.equal(recent.read(ALL, offsetOf(7), MANY), undefined, 'it was the head')
})

t.test('a page that ends at the head is up to date only while the head is known to be that of the feed', async (t) => {
  const recent = fill(5)
  const read = (limit = 1000) => recent.read(ALL, offsetOf(0), { ...MANY, limit })
  t.match(read(), { next: offsetOf(5), upToDate: true, more: false })
  recent.setUpToDate(false)
  t.match(read(), { next: offsetOf(5), upToDate: false, more: false }, 'nothing else can be read at once')
  recent.setUpToDate(true)
  t.match(read(), { upToDate: true, more: false })
  t.match(read(4), { upToDate: false, more: true })
})

t.test(
  'the version changes with a new record, a reset, and when the head is reached, and with nothing else',
  async (t) => {
    const recent = fill(5)
    const changes = (work: () => void) => {
      const before = recent.version
      work()
      return recent.version !== before
    }
    t.equal(
      changes(() => recent.add([makeRecord(6)], offsetOf(6))),
      true,
    )
    t.equal(
      changes(() => recent.reset(offsetOf(6))),
      true,
    )
    t.equal(
      changes(() => {
        recent.setUpToDate(true)
      }),
      true,
    )
    t.equal(
      changes(() => {
        recent.add([], offsetOf(7))
        recent.setUpToDate(true)
        recent.read(ALL, offsetOf(7), MANY)
        recent.setUpToDate(false)
      }),
      false,
    )
  },
)

t.test('readers with equal filters at the same offset share a page, until something changes', async (t) => {
  const recent = fill(5)
  const read = (filter = selecting({ source: 's' }), limit = 2) => recent.read(filter, offsetOf(1), { ...MANY, limit })
  let page = read()
  t.equal(read(), page)
  t.not(read(ALL), page, 'another filter')
  t.not(read(undefined, 3), page, 'another limit')
  for (const change of [() => recent.add([makeRecord(6)], offsetOf(6)), () => recent.setUpToDate(false)]) {
    change()
    t.not(read(), page)
    page = read()
  }
})

t.test('at most 64 pages are kept, and none with a long filter', async (t) => {
  const isKept = (recent: RecentRecords, filter: FeedFilter) => {
    const page = recent.read(filter, offsetOf(0), MANY)
    return recent.read(filter, offsetOf(0), MANY) === page
  }
  const filters = Array.from({ length: 100 }, (_, n) => selecting({ source: `source ${n}` }))
  const recent = fill(5)
  t.equal(filters.filter((filter) => isKept(recent, filter)).length, 64)
  recent.add([], offsetOf(6))
  t.equal(isKept(recent, filters[99] as FeedFilter), true, 'there is room again')
  t.equal(isKept(recent, selecting({ source: 'x'.repeat(1024) })), false)
})

t.test('a page ends at the limit, or before a record with which it would exceed its size', async (t) => {
  const recent = fill(5)
  const check = (limits: object, last: number, more: boolean) => {
    const page = recent.read(ALL, offsetOf(0), { ...MANY, ...limits })
    t.equal(numbersIn(page?.lines).length, last, JSON.stringify(limits))
    t.match(page, { next: offsetOf(last), upToDate: !more, more })
  }
  check({ limit: 2 }, 2, true)
  check({ limit: 5 }, 5, false)
  check({ maxBytes: 3 * SIZE }, 3, true)
  check({ maxBytes: 3 * SIZE - 1 }, 2, true)
  // One record, however large it is.
  check({ maxBytes: 1 }, 1, true)
})

t.test('records that do not match count neither for the limit nor for the size', async (t) => {
  const recent = new RecentRecords(2 ** 20)
  recent.reset(offsetOf(0))
  const records = recordsFrom(1, 9).map((record, at) => ({ ...record, source: at % 3 === 0 ? 'mine' : 'other' }))
  recent.add(records, offsetOf(9))
  recent.setUpToDate(true)
  const filter = selecting({ source: 'mine' })
  const page = recent.read(filter, offsetOf(0), { limit: 3, maxBytes: 3 * SIZE })
  t.same(numbersIn(page?.lines), [1, 4, 7])
  t.match(page, { next: offsetOf(9), upToDate: true }, 'no further match follows')
  t.match(recent.read(filter, offsetOf(0), { ...MANY, limit: 2 }), { next: offsetOf(4), upToDate: false })
})

t.test('the oldest records make room for new ones, and a reader behind them gets no page', async (t) => {
  const recent = fill(5, 3)
  t.equal(recent.read(ALL, offsetOf(1), MANY), undefined)
  t.same(numbersIn(recent.read(ALL, offsetOf(2), MANY)?.lines), [3, 4, 5])
  recent.add([makeRecord(6)], offsetOf(6))
  t.equal(recent.read(ALL, offsetOf(2), MANY), undefined)
  t.same(numbersIn(recent.read(ALL, offsetOf(3), MANY)?.lines), [4, 5, 6])
})

t.test('a record that is larger than the room is kept until the next one arrives', async (t) => {
  const recent = fill(2, 3)
  recent.add([makeRecord(3, {}, 5 * SIZE)], offsetOf(3))
  t.same(numbersIn(recent.read(ALL, offsetOf(2), MANY)?.lines), [3])
  recent.add([makeRecord(4)], offsetOf(4))
  t.equal(recent.read(ALL, offsetOf(2), MANY), undefined)
  t.same(numbersIn(recent.read(ALL, offsetOf(3), MANY)?.lines), [4])
})

t.test('a reader that is ahead of the head gets no page', async (t) => {
  t.equal(fill(5).read(ALL, offsetOf(6), MANY), undefined)
})

t.test('the head moves without records, and a reader moves on with it', async (t) => {
  const recent = fill(5)
  recent.add([], offsetOf(9))
  t.equal(recent.head, offsetOf(9))
  t.match(recent.read(ALL, offsetOf(5), MANY), { lines: '', next: offsetOf(9), upToDate: true })
})

t.test('after a reset, only what was added since then can be read', async (t) => {
  const recent = fill(5)
  recent.reset(offsetOf(3))
  t.equal(recent.head, offsetOf(3))
  t.equal(recent.read(ALL, offsetOf(2), MANY), undefined)
  t.match(recent.read(ALL, offsetOf(3), MANY), { lines: '', upToDate: false })
  recent.add([makeRecord(4)], offsetOf(4))
  t.same(numbersIn(recent.read(ALL, offsetOf(3), MANY)?.lines), [4])
})

t.test('readers that follow pages of any size get every match once, or no page at all', async (t) => {
  const record = fc.record({
    source: fc.constantFrom('a', 'b'),
    size: fc.integer({ min: 0, max: 3 * SIZE }),
    gap: fc.integer({ min: 1, max: 3 }),
  })
  const commits = fc.array(fc.array(record, { maxLength: 8 }), { minLength: 1, maxLength: 12 })
  const limits = fc.record({ limit: fc.integer({ min: 1, max: 4 }), maxBytes: fc.integer({ min: 1, max: 6 * SIZE }) })
  const filters = fc.constantFrom(ALL, selecting({ source: 'a' }), selecting({ source: 'none' }))
  let complete = 0
  fc.assert(
    fc.property(commits, limits, filters, fc.integer({ min: 0, max: 20 }), (commits, limits, filter, room) => {
      const recent = new RecentRecords(room * SIZE)
      recent.reset(offsetOf(0))
      const all = []
      let n = 0
      for (const commit of commits) {
        const added = commit.map(({ source, size, gap }) => {
          n += gap
          return makeRecord(n, { source }, size)
        })
        all.push(...added)
        recent.add(added, offsetOf(n))
        for (const start of [offsetOf(0), ...all.map(({ offset }) => offset)]) {
          const rest = all.filter((record) => record.offset > start)
          const fits = rest.reduce((sum, record) => sum + record.line.length, 0) <= room * SIZE
          const found = []
          for (let after = start; ; ) {
            const page = recent.read(filter, after, limits)
            if (page === undefined) {
              if (fits) throw new Error(`${start} is not there`)
              break
            }
            found.push(...numbersIn(page.lines))
            after = page.next
            if (page.more) continue
            const expected = numbersIn(
              rest
                .filter(filter.isMatch)
                .map(({ line }) => line)
                .join(''),
            )
            if (String(found) !== String(expected)) throw new Error(`after ${start}: ${found}, not ${expected}`)
            if (after !== recent.head) throw new Error(`after ${start}: it ends before the head`)
            complete++
            break
          }
        }
      }
    }),
    { numRuns: 60 },
  )
  t.ok(complete > 100, `${complete} readers reached the head`)
})
