import { mock } from 'node:test'
import type { KyselyPlugin, RawBuilder } from 'kysely'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import type { Key } from '../../src/access/key.ts'
import { KeyRing, MAX_LOOKUPS } from '../../src/access/key-ring.ts'
import { issueKey, revokeKey } from '../../src/access/manage-keys.ts'
import { connect } from '../../src/postgres/connect.ts'
import { Problem } from '../../src/problems.ts'
import { turn } from '../helpers/clock.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'

const REFRESH_MS = 2_000

/** Returns the key, or the code of the problem. */
const resultOf = async (ring: KeyRing, token: string) => {
  try {
    return await ring.find(token)
  } catch (error) {
    return (error as Problem).code
  }
}

t.test('a key is found by its token, with its permissions', async (t) => {
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

t.test('after the keys have been read, a known token is found synchronously and without a query', async (t) => {
  const { ring, make, queries } = await setUp(t)
  const { id, token } = await make()
  await ring.find(token)
  const before = queries()
  for (let count = 0; count < 1000; count++) {
    const found = ring.find(token)
    if (found instanceof Promise || found?.id !== id) throw new Error('not found synchronously')
  }
  t.equal(queries(), before)
})

t.test('neither an unknown token nor the hash of a real one finds a key', async (t) => {
  const { ring, make, root } = await setUp(t)
  await make()
  t.equal(await ring.find('sluice_000000000000_nothing'), undefined)
  const { rows } = await sql<{ hash: Buffer }>`SELECT hash FROM sluice.keys`.execute(root)
  t.equal(await ring.find((rows[0] as { hash: Buffer }).hash.toString('hex')), undefined)
})

// There was no limit: all requests waited while the database was unavailable or the table of keys was locked.
t.test('before the first read of the keys, a hundred requests wait for it, and the others are refused', async (t) => {
  const { ring, make, hold } = await setUp(t)
  const { id, token } = await make()
  const held = hold()
  const results = Array.from({ length: MAX_LOOKUPS - 1 }, (_, n) => resultOf(ring, `unknown${n}`))
  const last = ring.find(token)
  const late = Array.from({ length: 50 }, () => resultOf(ring, token))
  t.same(await Promise.all(late), Array(50).fill('overloaded'))
  held.release()
  t.same(await Promise.all(results), Array(MAX_LOOKUPS - 1).fill(undefined))
  t.match(await last, { id })
  t.match(ring.find(token), { id }, 'later requests do not wait')
})

t.test('a hundred requests with unknown keys wait for the database, and the others are refused', async (t) => {
  const { ring, make, hold } = await setUp(t)
  const known = await make()
  await ring.find(known.token)
  const held = hold()
  const results = Array.from({ length: MAX_LOOKUPS + 50 }, (_, n) => resultOf(ring, `unknown${n}`))
  t.same(await Promise.all(results.slice(MAX_LOOKUPS)), Array(50).fill('overloaded'))
  t.match(ring.find(known.token), { id: known.id }, 'a known key does not wait')
  held.release()
  t.same(await Promise.all(results.slice(0, MAX_LOOKUPS)), Array(MAX_LOOKUPS).fill(undefined))
  t.equal(await ring.find('unknown'), undefined, 'later requests can wait again')
})

t.test('a new key works at once, even if an unknown token has just been looked up', async (t) => {
  const { ring, make } = await setUp(t)
  t.equal(await ring.find('unknown'), undefined)
  const { id, token } = await make()
  t.equal((await ring.find(token))?.id, id)
})

t.test('a new key works at once, even if a read that began before its creation is running', async (t) => {
  const { ring, make, hold } = await setUp(t)
  await ring.find('unknown')
  const held = hold()
  const unknown = ring.find('another')
  await held.begun
  const { id, token } = await make()
  const found = ring.find(token)
  // Long enough for another query to be allowed. The result of the earlier read must not be used for this key.
  for (const end = performance.now() + 150; performance.now() < end; ) await turn()
  held.release()
  t.equal(await unknown, undefined)
  t.equal((await found)?.id, id)
})

t.test('a flood of unknown tokens costs few queries, and every lookup gets a result', async (t) => {
  const { ring, queries } = await setUp(t)
  await ring.find('first')
  const [before, started] = [queries(), performance.now()]
  for (let wave = 0; wave < 5; wave++) {
    const found = await Promise.all(Array.from({ length: 1000 }, (_, index) => resultOf(ring, `${wave} ${index}`)))
    t.same(new Set(found), new Set([undefined, 'overloaded']))
  }
  const tenths = Math.ceil((performance.now() - started) / 100)
  t.ok(queries() - before <= tenths, `${queries() - before} queries in ${tenths} tenths of a second`)
})

t.test('a known token is found synchronously during a flood of unknown ones', async (t) => {
  const { ring, make } = await setUp(t)
  const { token } = await make()
  await ring.find(token)
  const flood = Array.from({ length: 1000 }, (_, index) => resultOf(ring, `${index}`))
  t.notOk(ring.find(token) instanceof Promise)
  await Promise.all(flood)
})

t.test('the keys are read again every two seconds, so a key that was revoked elsewhere is noticed', async (t) => {
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

t.test('a refresh aborts the streams of keys that lost the scope or a source prefix, and no others', async (t) => {
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
  t.notOk(ingest.aborted || read.aborted, 'a key that got more sources')
  await change(sql`scopes = '{ingest}'`, id)
  await refresh()
  t.match(read.reason, { code: 'forbidden' })
  t.notOk(ingest.aborted)
  await change(sql`source_prefixes = '{a,b}'`, id)
  await refresh()
  t.match(ingest.reason, { code: 'source_forbidden' }, 'it lost c, which a newer stream may be using')

  const late = ring.watch(key, 'read')
  t.match(late.reason, { code: 'forbidden' }, 'the scope was lost after the request was authorized')
  await change(sql`scopes = '{ingest,read}', source_prefixes = '{}'`, id)
  await refresh()
  const again = ring.watch(key, 'read')
  t.notOk(again.aborted, 'the key has the scope again')
  await change(sql`source_prefixes = '{a,b}'`, id)
  await refresh()
  t.match(again.reason, { code: 'source_forbidden' }, 'the key was limited to sources')
  t.same(ring.current(key, 'read').sourcePrefixes, ['a', 'b'])
  await sql`DELETE FROM sluice.keys WHERE id = ${id}`.execute(root)
  await refresh()
  t.throws(() => ring.current(key, 'read'), { code: 'unauthorized' })
})

t.test('stop() waits for the running read, so that the connections can be closed after it', async (t) => {
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
  held.release()
  await stopped
})

// An unknown key got a permanent error. That was wrong for a key that had been created just before the outage.
t.test('during an outage known keys work, and unknown ones get a retryable error', async (t) => {
  const { ring, make, beginOutage, endOutage } = await setUp(t)
  const { id, token } = await make()
  await ring.find(token)
  await beginOutage()
  await t.rejects(ring.find('unknown') as Promise<unknown>, { code: 'database_unavailable' })
  t.equal((ring.find(token) as Key).id, id)
  await endOutage()
  t.equal(await ring.find('unknown'), undefined)
  const other = await make()
  t.equal((await ring.find(other.token))?.id, other.id, 'after the outage, a new key works')
})

t.test('the failed refreshes of an outage are reported once, and known keys keep working', async (t) => {
  const { ring, make, beginOutage, endOutage, queries, nextQuery, start, failures } = await setUp(t)
  const { id, token } = await make()
  await ring.find(token)
  start()
  for (const outage of [1, 2]) {
    await beginOutage()
    // The third one begins after two have failed.
    const before = queries()
    await until('three refreshes', () => {
      mock.timers.tick(REFRESH_MS)
      return queries() - before === 3
    })
    t.equal(failures.length, outage)
    t.ok(failures.at(-1) instanceof Error)
    t.equal((ring.find(token) as Key).id, id)
    await endOutage()
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

t.test('if the keys have never been read, an outage is reported as such and not as an unknown key', async (t) => {
  const { ring, make, beginOutage, endOutage } = await setUp(t)
  const { id, token } = await make()
  await beginOutage()
  const failure = await Promise.resolve(ring.find(token)).catch((error) => error)
  t.ok(failure instanceof Problem)
  t.match(failure, { status: 503, code: 'database_unavailable' })
  await endOutage()
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
    /** The database closes its connections and accepts no new ones. */
    async beginOutage() {
      await sql`ALTER DATABASE ${sql.id(name)} ALLOW_CONNECTIONS false`.execute(elsewhere)
      await sql`SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = ${name}`.execute(
        elsewhere,
      )
    },
    endOutage: () => sql`ALTER DATABASE ${sql.id(name)} ALLOW_CONNECTIONS true`.execute(elsewhere),
  }
}

/** Counts the ring's queries, reports each result, and can hold one back. */
function watchQueries() {
  let count = 0
  let listeners: (() => void)[] = []
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
      // In the next turn, after the ring has processed the result.
      setImmediate(() => {
        for (const listener of listeners) listener()
        listeners = []
      })
      return result
    },
  }
  return {
    plugin,
    queries: () => count,
    /** Resolves when the ring has the result of the next query. */
    nextQuery: () =>
      new Promise<void>((resolve) => {
        listeners.push(resolve)
      }),
    /** Holds back the next result of the database until `release` is called. */
    hold() {
      const { promise: begun, resolve: begin } = Promise.withResolvers<void>()
      const { promise: released, resolve: release } = Promise.withResolvers<void>()
      holding = { begin, released }
      return { begun, release }
    },
  }
}
