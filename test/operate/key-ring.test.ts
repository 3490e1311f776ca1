import { mock } from 'node:test'
import type { KyselyPlugin, RawBuilder } from 'kysely'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { connect } from '../../src/data/connect.ts'
import { revokeKey } from '../../src/data/keys.ts'
import { Problem } from '../../src/lib/problems.ts'
import { issueKey } from '../../src/operate/issue-key.ts'
import { KeyRing, MOST_LOOKING } from '../../src/operate/key-ring.ts'
import type { Key } from '../../src/operate/keys.ts'
import { turn } from '../helpers/clock.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'

const REFRESH_MS = 2_000

/** The key, or the code of the problem. */
const answerOf = async (ring: KeyRing, token: string) => {
  try {
    return await ring.find(token)
  } catch (error) {
    return (error as Problem).code
  }
}

t.test('a key is found by its token, with all that it may do', async (t) => {
  const { ring, make } = await setUp(t)
  const expiresAt = new Date('2999-01-02T03:04:05.678Z')
  const { id, token } = await make({
    scopes: ['ingest', 'read'],
    sourcePrefixes: ['shop/'],
    recordsPerSecond: 50,
    expiresAt,
  })
  t.same(await ring.find(token), {
    id,
    name: 'test',
    scopes: ['ingest', 'read'],
    sourcePrefixes: ['shop/'],
    recordsPerSecond: 50,
    expiresAt,
    revokedAt: null,
  })
})

t.test('once the keys were read, a known token is answered at once and costs no query', async (t) => {
  const { ring, make, queries } = await setUp(t)
  const { id, token } = await make()
  await ring.find(token)
  const before = queries()
  for (let count = 0; count < 1000; count++) {
    const found = ring.find(token)
    if (found instanceof Promise || found?.id !== id) throw new Error('not at once')
  }
  t.equal(queries(), before)
})

t.test('a token that nobody issued belongs to no key, nor does the hash of one that somebody did', async (t) => {
  const { ring, make, root } = await setUp(t)
  await make()
  t.equal(await ring.find('sluice_000000000000_nothing'), undefined)
  const { rows } = await sql<{ hash: Buffer }>`SELECT hash FROM sluice.keys`.execute(root)
  t.equal(await ring.find((rows[0] as { hash: Buffer }).hash.toString('hex')), undefined)
})

// However many came, all waited, for as long as the database was away or the keys were locked.
t.test('before the keys were read a hundred requests wait for them; the others are refused', async (t) => {
  const { ring, make, hold } = await setUp(t)
  const { id, token } = await make()
  const held = hold()
  const answers = Array.from({ length: MOST_LOOKING - 1 }, (_, n) => answerOf(ring, `unknown${n}`))
  const last = ring.find(token)
  const late = Array.from({ length: 50 }, () => answerOf(ring, token))
  t.same(await Promise.all(late), Array(50).fill('overloaded'))
  held.goOn()
  t.same(await Promise.all(answers), Array(MOST_LOOKING - 1).fill(undefined))
  t.match(await last, { id })
  t.match(ring.find(token), { id }, 'and nobody waits for it any more')
})

t.test('of requests whose keys nobody knows a hundred wait for the database; the others are refused', async (t) => {
  const { ring, make, hold } = await setUp(t)
  const known = await make()
  await ring.find(known.token)
  const held = hold()
  const answers = Array.from({ length: MOST_LOOKING + 50 }, (_, n) => answerOf(ring, `unknown${n}`))
  t.same(await Promise.all(answers.slice(MOST_LOOKING)), Array(50).fill('overloaded'))
  t.match(ring.find(known.token), { id: known.id }, 'a known key does not wait')
  held.goOn()
  t.same(await Promise.all(answers.slice(0, MOST_LOOKING)), Array(MOST_LOOKING).fill(undefined))
  t.equal(await ring.find('unknown'), undefined, 'and there is room again')
})

t.test('a new key works at once, although another unknown token was just looked up', async (t) => {
  const { ring, make } = await setUp(t)
  t.equal(await ring.find('unknown'), undefined)
  const { id, token } = await make()
  t.equal((await ring.find(token))?.id, id)
})

t.test('a new key works at once, although a read that began before it was made is under way', async (t) => {
  const { ring, make, hold } = await setUp(t)
  await ring.find('unknown')
  const held = hold()
  const unknown = ring.find('another')
  await held.begun
  const { id, token } = await make()
  const found = ring.find(token)
  // Until it may ask the database again: it must not be content with the read that began too early.
  for (const until = performance.now() + 150; performance.now() < until; ) await turn()
  held.goOn()
  t.equal(await unknown, undefined)
  t.equal((await found)?.id, id)
})

t.test('a flood of unknown tokens costs a few queries, and everybody gets an answer', async (t) => {
  const { ring, queries } = await setUp(t)
  await ring.find('first')
  const [before, started] = [queries(), performance.now()]
  for (let wave = 0; wave < 5; wave++) {
    const found = await Promise.all(Array.from({ length: 1000 }, (_, index) => answerOf(ring, `${wave} ${index}`)))
    t.same(new Set(found), new Set([undefined, 'overloaded']))
  }
  const tenths = Math.ceil((performance.now() - started) / 100)
  t.ok(queries() - before <= tenths, `${queries() - before} queries in ${tenths} tenths of a second`)
})

t.test('a flood of unknown tokens does not slow down the known ones', async (t) => {
  const { ring, make } = await setUp(t)
  const { token } = await make()
  await ring.find(token)
  const flood = Array.from({ length: 1000 }, (_, index) => answerOf(ring, `${index}`))
  t.notOk(ring.find(token) instanceof Promise)
  await Promise.all(flood)
})

t.test('the copy is read again by itself: a key that was revoked elsewhere is known to be', async (t) => {
  const { ring, make, root, queries, nextQuery, start } = await setUp(t)
  const { id, token } = await make()
  await ring.find(token)
  start()
  const before = queries()
  await revokeKey(root as never, id)
  const read = nextQuery()
  mock.timers.tick(REFRESH_MS - 1)
  t.equal((ring.find(token) as Key).revokedAt, null)
  t.equal(queries(), before)
  mock.timers.tick(1)
  await read
  t.not((ring.find(token) as Key).revokedAt, null)
  t.equal(queries(), before + 1)
})

t.test('who watches a key is told within one refresh what it lost, and of nothing that it still may do', async (t) => {
  const { ring, make, root, start, refresh } = await setUp(t)
  start()
  const change = (set: RawBuilder<unknown>, id: string) =>
    sql`UPDATE sluice.keys SET ${set} WHERE id = ${id}`.execute(root)
  const { id, token } = await make({ scopes: ['ingest', 'read'], sourcePrefixes: ['a', 'b'] })
  const key = (await ring.find(token)) as Key
  const [ingest, read] = [ring.watch(key, 'ingest'), ring.watch(key, 'read')]
  t.equal(ring.watch(key, 'read'), read, 'all streams of a key share one signal')

  await change(sql`source_prefixes = '{b,c,a}', name = 'other'`, id)
  await refresh()
  t.notOk(ingest.aborted || read.aborted, 'more sources')
  await change(sql`scopes = '{ingest}'`, id)
  await refresh()
  t.match(read.reason, { code: 'forbidden' })
  t.notOk(ingest.aborted)
  await change(sql`source_prefixes = '{a,b}'`, id)
  await refresh()
  t.match(ingest.reason, { code: 'source_forbidden' }, 'c, which a stream that began meanwhile may use')

  const late = ring.watch(key, 'read')
  t.match(late.reason, { code: 'forbidden' }, 'lost since the request was let in')
  await change(sql`scopes = '{ingest,read}', source_prefixes = '{}'`, id)
  await refresh()
  const again = ring.watch(key, 'read')
  t.notOk(again.aborted, 'a key that may again')
  await change(sql`source_prefixes = '{a,b}'`, id)
  await refresh()
  t.match(again.reason, { code: 'source_forbidden' }, 'bound to sources')
  t.same(ring.current(key, 'read').sourcePrefixes, ['a', 'b'])
  await sql`DELETE FROM sluice.keys WHERE id = ${id}`.execute(root)
  await refresh()
  t.throws(() => ring.current(key, 'read'), { code: 'unauthorized' })
})

t.test('stopping waits for the read that is under way, so that the connections can be closed after it', async (t) => {
  const { ring, hold } = await setUp(t)
  const held = hold()
  void ring.find('unknown')
  await held.begun
  let over = false
  const stopped = ring.stop().then(() => {
    over = true
  })
  await turn()
  t.notOk(over)
  held.goOn()
  await stopped
})

// An unknown one was told "wrong", and not to come back: with a key that was made just before, that was not true.
t.test('while the database is away the last copy holds: known keys work, unknown ones are to try again', async (t) => {
  const { ring, make, away, back } = await setUp(t)
  const { id, token } = await make()
  await ring.find(token)
  await away()
  await t.rejects(ring.find('unknown') as Promise<unknown>, { code: 'database_unavailable' })
  t.equal((ring.find(token) as Key).id, id)
  await back()
  t.equal(await ring.find('unknown'), undefined)
  const other = await make()
  t.equal((await ring.find(other.token))?.id, other.id, 'and it recovers')
})

t.test('while the database is away the failed refresh is told, once for each outage, and the copy holds', async (t) => {
  const { ring, make, away, back, queries, nextQuery, start, failures } = await setUp(t)
  const { id, token } = await make()
  await ring.find(token)
  start()
  for (const outage of [1, 2]) {
    await away()
    // The third of them begins when two have failed.
    const before = queries()
    await until('three refreshes', () => {
      mock.timers.tick(REFRESH_MS)
      return queries() - before === 3
    })
    t.equal(failures.length, outage)
    t.ok(failures.at(-1) instanceof Error)
    t.equal((ring.find(token) as Key).id, id)
    await back()
    let refreshed = false
    void nextQuery().then(() => {
      refreshed = true
    })
    await until('a refresh that succeeds', () => {
      mock.timers.tick(REFRESH_MS)
      return refreshed
    })
  }
})

t.test('keys that could never be read are an outage, not a wrong key', async (t) => {
  const { ring, make, away, back } = await setUp(t)
  const { id, token } = await make()
  await away()
  const failure = await Promise.resolve(ring.find(token)).catch((error) => error)
  t.ok(failure instanceof Problem)
  t.match(failure, { status: 503, code: 'database_unavailable' })
  await back()
  t.equal((await ring.find(token))?.id, id)
})

// — helpers —

async function setUp(t: Test) {
  const { name, apiUrl, superUrl } = await createDatabase(t)
  const root = connectAs(superUrl)
  const elsewhere = connectAs(new URL('/postgres', superUrl).href)
  const api = connect({ url: apiUrl, name: 'ring', connections: 2, statementTimeoutMs: 0, onError: () => {} })

  const failures: unknown[] = []
  const { plugin, ...watch } = watchQueries()
  const ring = new KeyRing(api.withPlugin(plugin), (error) => failures.push(error))
  t.teardown(async () => {
    await ring.stop()
    await Promise.all([api.destroy(), root.destroy(), elsewhere.destroy()])
  })

  return {
    ring,
    root,
    failures,
    ...watch,
    /** Starts the refreshes of the ring. They happen when the test advances the clock. */
    start() {
      mock.timers.enable({ apis: ['setInterval'] })
      t.teardown(() => mock.timers.reset())
      ring.start()
    },
    /** Advances the clock to the next refresh, and waits until it has succeeded. */
    async refresh() {
      const read = watch.nextQuery()
      mock.timers.tick(REFRESH_MS)
      await read
    },
    make: ({
      scopes = ['ingest'],
      sourcePrefixes = [],
      recordsPerSecond,
      expiresAt = null,
    }: Partial<Parameters<typeof issueKey>[1]> = {}) =>
      issueKey(root as never, { name: 'test', scopes, sourcePrefixes, recordsPerSecond, expiresAt }),
    /** The database ends its connections and lets nobody in. */
    async away() {
      await sql`ALTER DATABASE ${sql.id(name)} ALLOW_CONNECTIONS false`.execute(elsewhere)
      await sql`SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = ${name}`.execute(
        elsewhere,
      )
    },
    back: () => sql`ALTER DATABASE ${sql.id(name)} ALLOW_CONNECTIONS true`.execute(elsewhere),
  }
}

/** Counts the ring's queries, reports each result, and can hold one back. */
function watchQueries() {
  let count = 0
  let told: (() => void)[] = []
  let holding: { begin: () => void; released: Promise<void> } | undefined
  const plugin: KyselyPlugin = {
    transformQuery: ({ node }) => {
      count++
      return node
    },
    async transformResult({ result }) {
      const { begin, released } = holding ?? {}
      holding = undefined
      begin?.()
      await released
      // Told in the next turn, when the ring has taken it over.
      setImmediate(() => {
        for (const tell of told) tell()
        told = []
      })
      return result
    },
  }
  return {
    plugin,
    queries: () => count,
    /** Resolves when the next query has been answered. */
    nextQuery: () =>
      new Promise<void>((resolve) => {
        told.push(resolve)
      }),
    /** The next answer of the database stays on its way until it may go on. */
    hold() {
      const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
      const { promise: released, resolve: goOn } = Promise.withResolvers<void>()
      holding = { begin, released }
      return { begun, goOn }
    },
  }
}
