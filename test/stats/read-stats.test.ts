import { sql } from 'kysely'
import t from 'tap'
import type { Key } from '../../src/access/key.ts'
import { countRecords } from '../../src/data/rollups.ts'
import { FairSemaphore } from '../../src/lib/fair-semaphore.ts'
import { connect } from '../../src/postgres/connect.ts'
import { readStatsQuery } from '../../src/stats/query.ts'
import { readStats } from '../../src/stats/read-stats.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { countReads } from '../helpers/record-reads.ts'

const RECORDS = 20_000

t.test('however many records there are, at most one of them is read', async (t) => {
  const { apiUrl, superUrl } = await createDatabase(t)
  const root = connectAs(superUrl)
  const db = connect({ url: apiUrl, name: 'stats', connections: 1, statementTimeoutMs: 60_000, onError: () => {} })
  t.teardown(() => Promise.all([root.destroy(), db.destroy()]))
  const store = (first: number) =>
    sql`
      INSERT INTO sluice.records (epoch, n, source, id, type)
      SELECT (SELECT max(epoch) FROM sluice.epochs), n, 's' || n % 5, n::text, 't' || n % 7
      FROM generate_series(${first}::integer, ${first + RECORDS - 1}::integer) AS n`.execute(root)
  await store(1)
  await countRecords(db, { part: 'live', limit: RECORDS, maxSeries: 1000 })
  // The oldest record that is not counted is read, for its age.
  await store(RECORDS + 1)
  await sql`ANALYZE sluice.records`.execute(root)

  const key: Key = {
    id: 'k',
    name: 'k',
    scopes: ['read'],
    sourcePrefixes: [],
    recordsPerSecond: null,
    expiresAt: null,
    revokedAt: null,
  }
  const semaphore = new FairSemaphore(1, 'refused')
  const reader = { db, primary: { db, semaphore }, semaphore, key, signal: new AbortController().signal }
  for (const bucket of ['minute', 'hour', 'day'] as const)
    for (const by of [{}, { by: 'type' }, { by: 'source' }] as const)
      for (const sourcePrefixes of [[], ['s1']]) {
        const before = await countReads(db, root)
        const filter = readStatsQuery({ bucket, ...by }, { ...key, sourcePrefixes }, Date.now())
        const { buckets } = JSON.parse(`${await readStats(reader, filter)}`)
        const name = JSON.stringify({ bucket, ...by, sourcePrefixes })
        t.ok(buckets.length > 0, name)
        // The row, and its entry in the index.
        t.equal((await countReads(db, root)) - before, 2, name)
      }
})
