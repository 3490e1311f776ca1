import { sql } from 'kysely'
import t from 'tap'
import { countRecords } from '../../src/data/rollups.ts'
import { connect as connectAs } from '../../src/postgres/connect.ts'
import { migrate } from '../../src/postgres/migrate.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

t.test('a migration under load: each record, older or newer, is counted once', async (t) => {
  const { superUrl, ownerUrl, apiUrl } = await createDatabase(t)
  const [root, owner] = [connect(superUrl, 4), connect(ownerUrl)]
  const api = connectAs({ url: apiUrl, name: 'api', connections: 1, statementTimeoutMs: 60_000, onError: () => {} })
  t.teardown(() => Promise.all([root.destroy(), owner.destroy(), api.destroy()]))
  let ids = 0
  const store = (on: typeof root, type: string) =>
    sql`
      INSERT INTO sluice.records (epoch, n, source, id, type, data)
      SELECT (SELECT max(epoch) FROM sluice.epochs), 1, 's', ${`${++ids}`}, ${type}, '1'`.execute(on)

  await sql`DROP TABLE sluice.series, sluice.rollups, sluice.rollup_progress, sluice.storage_history`.execute(root)
  await sql`DELETE FROM sluice.migrations WHERE name >= '0011'`.execute(root)
  await store(root, 'old')
  // Two writers are running. The second one has a higher transaction id, and commits before the migration.
  const [first, second] = [await root.startTransaction().execute(), await root.startTransaction().execute()]
  await store(first as never, 'running')
  await store(second as never, 'committed')
  await second.commit().execute()
  await migrate(owner)
  await store(root, 'new')
  await first.commit().execute()

  for (const part of ['live', 'backfill', 'live'] as const) {
    await sql`UPDATE sluice.rollup_progress SET rest_until = NULL`.execute(root)
    while ((await countRecords(api, { part, limit: 1, maxSeries: 1000 })) !== 0)
      await sql`UPDATE sluice.rollup_progress SET rest_until = NULL`.execute(root)
  }
  const { rows } = await sql`
    SELECT type, records::integer FROM sluice.rollups JOIN sluice.series USING (series)
    WHERE source = '' AND seconds = 3600 ORDER BY type`.execute(root)
  t.same(rows, [
    { type: '', records: 4 },
    ...['committed', 'new', 'old', 'running'].map((type) => ({ type, records: 1 })),
  ])
})
