import t, { type Test } from 'tap'
import type { FeedFilter } from '../../src/feed/feed-filter.ts'
import type { FeedRecord } from '../../src/feed/feed-record.ts'
import { type FeedSource, Watcher } from '../../src/feed/watcher.ts'
import { stopClock } from '../helpers/clock.ts'
import { makeRecord, numbersIn, offsetOf, selecting } from '../helpers/feed.ts'
import { until } from '../helpers/until.ts'

const ALL = selecting()
const MANY = { limit: 1000, maxBytes: 2 ** 30 }
/** How often the watcher reads if nobody reports a commit. */
const POLL_MS = 500
/** How long it watches after the last reader has left. */
const LINGER_MS = 10_000
const never = new AbortController().signal

/** The feed of a database that fails, and loses its history, on demand. It begins with records 1 to 3. */
function openFeed() {
  let all: FeedRecord[] = [1, 2, 3].map((n) => makeRecord(n))
  let failure: Error | undefined
  let held: Promise<void> | undefined
  const calls = { head: 0, read: 0, has: 0 }
  const head = () => all.at(-1)?.offset ?? offsetOf(0)
  const call = async <T>(name: keyof typeof calls, result: () => T): Promise<T> => {
    calls[name]++
    // What is committed during the call is not in its snapshot.
    const snapshot = result()
    await held
    if (failure !== undefined) throw failure
    return snapshot
  }
  const source: FeedSource = {
    head: () => call('head', head),
    read: (after) =>
      call('read', () => {
        const rest = all.filter(({ offset }) => offset > after)
        const records = rest.slice(0, 100)
        const upToDate = records.length === rest.length
        const next = records.at(-1)?.offset ?? after
        return { records, next: upToDate && head() > next ? head() : next, upToDate }
      }),
    has: (offset) => call('has', () => offset === offsetOf(0) || all.some((record) => record.offset === offset)),
  }
  return {
    source,
    calls,
    head,
    commit: (...added: (number | FeedRecord)[]) =>
      void all.push(...added.map((record) => (typeof record === 'number' ? makeRecord(record) : record))),
    fail: (error: Error | undefined = undefined) => {
      failure = error
    },
    /** The database is now one with only these records. */
    setBack(...numbers: number[]) {
      all = numbers.map((n) => makeRecord(n))
    },
    /** Calls wait from now on. @returns lets them continue */
    hold() {
      const { promise, resolve } = Promise.withResolvers<void>()
      held = promise
      return () => {
        if (held === promise) held = undefined
        resolve()
      }
    },
  }
}

/** A watcher that has a reader and has read the head. Time stands still. */
async function start(t: Test, { recentSize = 2 ** 20 } = {}) {
  const clock = stopClock(t)
  const feed = openFeed()
  const errors: unknown[] = []
  const watcher = new Watcher(feed.source, { recentSize, onError: (error) => errors.push(error) })
  t.teardown(() => stop(watcher))
  const leave = watcher.join()
  await until('the head', () => watcher.read(ALL, feed.head(), MANY)?.upToDate)
  const read = (after: number) => {
    const page = watcher.read(ALL, offsetOf(after), MANY)
    return page && numbersIn(page.lines)
  }
  /** Waits in the way of a reader. `upTo` is set when it is over. */
  const wait = (after: number, { filter = ALL, ms = 60_000, signal = never, seen = watcher.version } = {}) => {
    const waiting = { upTo: undefined as string | undefined }
    watcher.wait(filter, offsetOf(after), ms, signal, seen).then((upTo) => {
      waiting.upTo = upTo
    })
    return waiting
  }
  const heads = () => feed.calls.head
  /** Commits, and waits until the watcher has read it. */
  const publish = async (...numbers: number[]) => {
    feed.commit(...numbers)
    watcher.notice()
    await until('the records', () => watcher.read(ALL, feed.head(), MANY))
  }
  return { ...feed, clock, watcher, errors, leave, read, wait, heads, publish }
}

/** Lets everything happen that waits for neither time nor a commit. */
async function settle() {
  for (let turns = 0; turns < 20; turns++) await new Promise(setImmediate)
}

/** A timer that is cleared after the clock was restored would break the next clock. */
async function stop(watcher: Watcher) {
  watcher.close()
  await settle()
}

// — stopped and watching —

t.test('without a reader it reads nothing, and the first reader makes it watch from the head', async (t) => {
  const clock = stopClock(t)
  const { source, calls, commit } = openFeed()
  const watcher = new Watcher(source, { recentSize: 1000, onError: () => {} })
  t.teardown(() => stop(watcher))
  watcher.notice()
  watcher.doubt()
  await clock.tick(60_000)
  t.same(calls, { head: 0, read: 0, has: 0 })
  t.equal(watcher.read(ALL, offsetOf(3), MANY), undefined)

  const leave = watcher.join()
  await until('the head', () => watcher.read(ALL, offsetOf(3), MANY)?.upToDate)
  t.match(watcher.read(ALL, offsetOf(3), MANY), { lines: '', next: offsetOf(3), upToDate: true })
  t.equal(watcher.read(ALL, offsetOf(2), MANY), undefined, 'what came before is only in the database')
  commit(4)
  watcher.notice()
  await until('the record', () => numbersIn(watcher.read(ALL, offsetOf(3), MANY)?.lines)[0] === 4)
  leave()
})

t.test('a hundred readers wait, and a commit costs one read for all of them', async (t) => {
  const { watcher, calls, wait, publish, read } = await start(t)
  const leaves = Array.from({ length: 99 }, () => watcher.join())
  const filters = [ALL, selecting({ source: 's' }), selecting({ types: ['t', 'u'] })]
  let at = 3
  for (let commits = 0; commits < 3; commits++) {
    const readers = Array.from({ length: 100 }, (_, n) => wait(at, { filter: filters[n % 3] as FeedFilter }))
    await settle()
    const before = { ...calls }
    await publish(at + 1)
    await until('all readers', () => readers.every(({ upTo }) => upTo === offsetOf(at)))
    t.same(read(at), [at + 1])
    t.same(calls, { ...before, read: before.read + 1 })
    at++
  }
  for (const leave of leaves) leave()
})

t.test('an idle feed costs one read per interval, however many readers wait', async (t) => {
  const { calls, clock, wait } = await start(t)
  const readers = Array.from({ length: 100 }, () => wait(3))
  await settle()
  const before = calls.read
  for (let times = 0; times < 4; times++) {
    await clock.tick(POLL_MS)
    await settle()
  }
  t.equal(calls.read - before, 4)
  t.ok(readers.every(({ upTo }) => upTo === undefined))
})

t.test('a commit that nobody reports is found after the interval', async (t) => {
  const { clock, commit, wait } = await start(t)
  const reader = wait(3)
  await settle()
  commit(4)
  await clock.tick(POLL_MS - 1)
  await settle()
  t.equal(reader.upTo, undefined)
  await clock.tick(1)
  await until('the reader', () => reader.upTo)
})

t.test('a commit that is reported while the watcher reads is not lost', async (t) => {
  const { calls, commit, hold, read, wait, watcher } = await start(t)
  const reader = wait(3)
  await settle()
  const release = hold()
  const before = calls.read
  watcher.notice()
  await until('the read', () => calls.read === before + 1)
  commit(4)
  watcher.notice()
  watcher.notice()
  release()
  await until('the reader', () => reader.upTo)
  t.same(read(3), [4])
  t.equal(calls.read, before + 2, 'both reports together caused one read')
})

t.test('what does not fit into one read is read at once', async (t) => {
  const { calls, commit, watcher } = await start(t)
  await settle()
  const before = calls.read
  commit(...Array.from({ length: 350 }, (_, n) => n + 4))
  watcher.notice()
  await until('the last record', () => watcher.read(ALL, offsetOf(353), MANY))
  t.equal(calls.read - before, 4)
})

t.test('records that no longer fit into the memory are read from the database', async (t) => {
  const { publish, read } = await start(t, { recentSize: 100 })
  await publish(...Array.from({ length: 50 }, (_, n) => n + 4))
  t.equal(read(3), undefined)
  t.same(read(52), [53])
})

t.test('commits in quick succession do not make it read more than once in five milliseconds', async (t) => {
  const { watcher, calls } = await start(t)
  const [before, begin] = [calls.read, process.hrtime.bigint()]
  for (let turns = 0; turns < 2000; turns++) {
    watcher.notice()
    await new Promise(setImmediate)
  }
  const ms = Number(process.hrtime.bigint() - begin) / 1e6
  const reads = calls.read - before
  t.ok(reads > 0 && reads <= ms / 5 + 2, `${reads} reads in ${ms} ms`)
})

t.test('a page is up to date only if the watcher has reached the head', async (t) => {
  const { calls, commit, hold, watcher } = await start(t)
  const page = () => watcher.read(ALL, offsetOf(3), MANY)
  commit(...Array.from({ length: 150 }, (_, n) => n + 4))
  const before = calls.read
  const release = hold()
  watcher.notice()
  await until('the first read', () => calls.read > before)
  const releaseNext = hold()
  release()
  await until('the second read', () => calls.read > before + 1)
  t.equal(numbersIn(page()?.lines).length, 100)
  t.match(page(), { next: offsetOf(103), upToDate: false, more: false })
  releaseNext()
  await until('the head', () => page()?.upToDate)
  t.equal(numbersIn(page()?.lines).length, 150)
  t.match(page(), { next: offsetOf(153) })
})

t.test('after its last reader it watches for ten seconds, and then forgets everything', async (t) => {
  const { calls, clock, commit, leave, publish, read, watcher } = await start(t)
  await publish(4)
  leave()
  await clock.tick(LINGER_MS - 1)
  await settle()
  t.same(read(3), [4])
  watcher.join()()
  await clock.tick(LINGER_MS - 1)
  await settle()
  t.same(read(3), [4], 'a reader came and left meanwhile')
  await clock.tick(POLL_MS)
  await until('the end', () => read(3) === undefined)
  t.equal(read(4), undefined)
  const before = { ...calls }
  await clock.tick(60_000)
  await settle()
  t.same(calls, before)

  commit(5)
  watcher.join()
  await until('the new head', () => read(5))
  t.equal(calls.head, before.head + 1)
  t.equal(read(4), undefined)
})

t.test('after it was closed it reads nothing, also for a new reader', async (t) => {
  const { calls, clock, read, watcher } = await start(t)
  await settle()
  watcher.close()
  await until('the end', () => read(3) === undefined)
  const before = { ...calls }
  watcher.join()
  watcher.notice()
  await clock.tick(60_000)
  await settle()
  t.same(calls, before)
})

// — waiting —

t.test('a reader waits only if nothing was added since it read', async (t) => {
  const { publish, wait, watcher } = await start(t)
  const seen = watcher.version
  await publish(4)
  t.equal(await watcher.wait(ALL, offsetOf(3), 60_000, never, seen), offsetOf(3))
  const left = watcher.wait(ALL, offsetOf(4), 60_000, AbortSignal.abort(), watcher.version)
  t.equal(await left, offsetOf(4), 'nor if it has left')
  const reader = wait(4)
  await settle()
  t.equal(reader.upTo, undefined)
})

// It read from the database again and again, as fast as it could.
t.test('a reader waits also if retention deleted the newest records before it could read them', async (t) => {
  const { clock, publish, wait } = await start(t)
  await publish(4, 5)
  // In the database, its offset is the head now.
  const [silent, woken] = [wait(3, { ms: 5_000 }), wait(3)]
  await settle()
  t.equal(silent.upTo, undefined)
  await clock.tick(5_000)
  await settle()
  t.equal(silent.upTo, offsetOf(5))
  await publish(6)
  t.equal(woken.upTo, offsetOf(5))
})

// It continued after all records, and missed those that it had not been woken for yet.
t.test('a reader whose wait is over while readers are being woken misses no record', async (t) => {
  const { clock, commit, read, wait, watcher } = await start(t)
  const isMatch = () => {
    // So the event loop continues with others, which takes time.
    clock.jump(1_000)
    return false
  }
  const slow = wait(3, { filter: { ...selecting({ subject: 'none' }), isMatch } })
  const reader = wait(3, { filter: selecting({ types: ['rare'] }), ms: 1_000 })
  commit(4, makeRecord(5, { type: 'rare' }))
  watcher.notice()
  await until('the end of the wait', () => reader.upTo)
  t.equal(reader.upTo, offsetOf(3))
  t.same(read(3), [4, 5])
  const other = wait(5, { filter: selecting({ types: ['rare'] }), ms: 1_000 })
  await settle()
  t.equal(other.upTo, undefined)
  t.equal(slow.upTo, undefined)
})

t.test('a reader that has read the new records from the database already is not woken for them', async (t) => {
  const { commit, publish, read, wait, watcher } = await start(t)
  commit(4, 5)
  const [ahead, behind] = [wait(5), wait(4)]
  watcher.notice()
  await until('the other reader', () => behind.upTo)
  t.same(read(3), [4, 5])
  await settle()
  t.equal(ahead.upTo, undefined)
  await publish(6)
  t.equal(ahead.upTo, offsetOf(5))
})

t.test('a reader whose filter matches nothing moves on with the head when its wait is over', async (t) => {
  const { clock, publish, read, wait } = await start(t)
  const [mine, other] = [wait(3, { ms: 5_000 }), wait(3, { filter: selecting({ source: 'none' }), ms: 5_000 })]
  await publish(4)
  await publish(5)
  t.equal(mine.upTo, offsetOf(3), 'the first match ends the wait')
  t.equal(other.upTo, undefined)
  await clock.tick(5_000)
  await settle()
  t.equal(other.upTo, offsetOf(5))
  t.same(read(5), [])
})

t.test('a reader that is woken continues after the records that do not match', async (t) => {
  const { commit, publish, read, wait, watcher } = await start(t)
  const reader = wait(3, { filter: selecting({ types: ['rare'] }) })
  await publish(4, 5)
  await publish(6)
  t.equal(reader.upTo, undefined)
  commit(makeRecord(7, { type: 'rare' }))
  watcher.notice()
  await until('the match', () => reader.upTo)
  t.equal(reader.upTo, offsetOf(6))
  t.same(read(6), [7])
})

t.test('a wait ends when its signal aborts, and the reader is where it was', async (t) => {
  const { publish, wait } = await start(t)
  const end = new AbortController()
  const reader = wait(3, { filter: selecting({ source: 'none' }), signal: end.signal })
  await publish(4)
  end.abort()
  await settle()
  t.equal(reader.upTo, offsetOf(3))
})

t.test('a reader that is ahead of the watcher is not set back', async (t) => {
  const { clock, commit, wait, publish } = await start(t)
  commit(4)
  // It has read record 4 from the database before the watcher has.
  const [silent, woken] = [wait(4, { filter: selecting({ source: 'none' }), ms: 1_000 }), wait(4)]
  await publish(5)
  await until('the match', () => woken.upTo)
  t.equal(woken.upTo, offsetOf(4))
  await clock.tick(1_000)
  await settle()
  t.equal(silent.upTo, offsetOf(5))

  const ahead = wait(9, { ms: 1_000 })
  await clock.tick(1_000)
  await settle()
  t.equal(ahead.upTo, offsetOf(9))
})

// It would wait for the next record, because the watcher would never report this one.
t.test('a record that is committed before the watcher has read its first head wakes a reader', async (t) => {
  stopClock(t)
  const { source, commit } = openFeed()
  const watcher = new Watcher(source, { recentSize: 1000, onError: () => {} })
  t.teardown(() => stop(watcher))
  const waiting = watcher.wait(ALL, offsetOf(3), 60_000, never, watcher.version)
  commit(4)
  watcher.join()
  t.equal(await waiting, offsetOf(3))
  t.equal(watcher.read(ALL, offsetOf(3), MANY), undefined, 'it reads from the database')
})

// — doubting —

const away = new Error('the database is away')

t.test('while the database is unavailable, readers wait, and its return wakes them', async (t) => {
  const { calls, commit, errors, fail, heads, publish, read, wait, watcher } = await start(t)
  await publish(4)
  const headsBefore = heads()
  fail(away)
  watcher.notice()
  await until('the error', () => errors.length > 0)
  const reader = wait(4)
  const failed = calls.read + calls.has
  await until('more tries', () => calls.read + calls.has > failed + 2)
  t.same(errors, [away], 'reported once')
  t.equal(reader.upTo, undefined)
  t.same(read(3), [4], 'the memory stays')

  commit(5)
  fail()
  await until('the reader', () => reader.upTo)
  t.equal(reader.upTo, offsetOf(4))
  t.same(read(3), [4, 5], 'the memory continues')
  t.equal(heads(), headsBefore)
})

t.test('each outage is reported once', async (t) => {
  const { calls, errors, fail, watcher } = await start(t)
  for (let outages = 1; outages <= 3; outages++) {
    fail(away)
    watcher.notice()
    await until('the error', () => errors.length === outages)
    const failed = calls.has
    await until('another try', () => calls.has > failed)
    fail()
    const reads = calls.read
    await until('a read', () => calls.read > reads)
    await settle()
  }
  t.equal(errors.length, 3)
})

t.test('if the database was set back during an outage, nothing of the old history is shown', async (t) => {
  const { errors, fail, publish, read, setBack, wait, watcher } = await start(t)
  await publish(4, 5, 6)
  const readers = [wait(6), wait(6, { filter: selecting({ source: 'none' }) })]
  fail(away)
  watcher.notice()
  await until('the error', () => errors.length > 0)
  setBack(1, 2, 3, 4)
  fail()
  await until('all readers', () => readers.every(({ upTo }) => upTo !== undefined))
  // Each reader now reads from the database, which refuses its offset.
  t.same(
    readers.map(({ upTo }) => upTo),
    [offsetOf(6), offsetOf(6)],
  )
  t.equal(read(6), undefined)
  t.equal(read(3), undefined)
  t.same(read(4), [])
  await publish(5)
  t.same(read(4), [5])
})

t.test('if the database fails again before it can be read, the old history is not shown either', async (t) => {
  const { calls, errors, fail, publish, read, setBack, source, watcher } = await start(t)
  await publish(4, 5, 6)
  fail(away)
  watcher.notice()
  await until('the error', () => errors.length > 0)
  setBack(1, 2)
  const { head } = source
  source.head = async () => {
    calls.head++
    throw away
  }
  fail()
  const before = calls.head
  await until('two tries', () => calls.head >= before + 2)
  t.equal(read(3), undefined)
  t.equal(read(6), undefined)
  source.head = head
  await until('the head', () => read(2))
  t.same(read(2), [])
})

t.test('if its first read fails, it tries again', async (t) => {
  stopClock(t)
  const { calls, fail, source } = openFeed()
  const errors: unknown[] = []
  const watcher = new Watcher(source, { recentSize: 1000, onError: (error) => errors.push(error) })
  t.teardown(() => stop(watcher))
  fail(away)
  watcher.join()
  await until('three tries', () => calls.head >= 3)
  t.same(errors, [away])
  t.equal(watcher.read(ALL, offsetOf(3), MANY), undefined)
  fail()
  await until('the head', () => watcher.read(ALL, offsetOf(3), MANY))
  t.equal(calls.has, 0, 'there is no history to check')
})

t.test('after a failover while the feed is idle, a lost record is no longer shown', async (t) => {
  const { calls, publish, read, setBack, wait, watcher } = await start(t)
  await publish(4, 5, 6)
  const reader = wait(6)
  await settle()
  setBack(1, 2, 3, 4)
  // No time passes: it does not wait until it polls.
  watcher.doubt()
  await until('the reader', () => reader.upTo)
  t.equal(reader.upTo, offsetOf(6))
  for (const after of [3, 5, 6]) t.equal(read(after), undefined, `after ${after}, it reads from the database`)
  t.same(read(4), [])
  t.equal(calls.has, 1)
  await publish(5)
  t.same(read(4), [5])
})

t.test(
  'a new connection to the same database keeps the memory, and no page is up to date until it was checked',
  async (t) => {
    const { calls, heads, hold, publish, read, wait, watcher } = await start(t)
    await publish(4)
    const [reader, headsBefore] = [wait(4), heads()]
    await settle()
    const isUpToDate = () => watcher.read(ALL, offsetOf(3), MANY)?.upToDate
    t.equal(isUpToDate(), true)
    const release = hold()
    watcher.doubt()
    await until('the check', () => calls.has === 1)
    t.same([read(3), isUpToDate()], [[4], false])
    release()
    await until('the head', isUpToDate)
    t.same(read(3), [4])
    t.equal(reader.upTo, undefined)
    t.equal(heads(), headsBefore)
  },
)

t.test('a connection that is new during the check is checked as well', async (t) => {
  const { calls, hold, publish, read, setBack, watcher } = await start(t)
  await publish(4)
  const release = hold()
  watcher.doubt()
  await until('the check', () => calls.has === 1)
  // The first connection has answered that the record is stored.
  setBack(1, 2, 3)
  watcher.doubt()
  release()
  await until('the other history', () => read(4) === undefined && read(3))
  t.equal(calls.has, 2)
  t.same(read(3), [])
})

t.test('what was read when the connection became a new one is not shown', async (t) => {
  const { calls, commit, hold, read, setBack, wait, watcher } = await start(t)
  const [reader, before] = [wait(3), calls.read]
  commit(4)
  const release = hold()
  watcher.notice()
  await until('the read', () => calls.read > before)
  setBack(1, 2, 3)
  watcher.doubt()
  release()
  await until('the head', () => watcher.read(ALL, offsetOf(3), MANY)?.upToDate)
  t.same(read(3), [])
  t.equal(read(4), undefined)
  t.equal(reader.upTo, undefined)
  t.equal(calls.has, 1)
})
