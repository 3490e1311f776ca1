import { sql } from 'kysely'
import t from 'tap'
import { openPostgres } from '../../scripts/durability/postgres.ts'
import { createRecordStore } from '../../src/data/record-store.ts'
import { connect } from '../../src/postgres/connect.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { ownFolder } from '../helpers/own-server.ts'
import { makeRow } from '../helpers/rows.ts'

// 200 of 200 acknowledged records were lost. Without synchronous_commit, PostgreSQL keeps commits in memory for up to ten seconds
// here, before it writes them to its log.
t.test('acknowledged records survive kill -9 of PostgreSQL if the role has synchronous_commit off', async (t) => {
  const postgres = await openPostgres(await ownFolder(t), { wal_writer_delay: '10s', shared_buffers: '16MB' })
  t.teardown(() => postgres.close())
  const root = connectAs(postgres.superUrl)
  await sql`ALTER ROLE sluice_api SET synchronous_commit = off`.execute(root)
  await root.destroy()

  const db = connect({ url: postgres.apiUrl, name: 'test', connections: 1, statementTimeoutMs: 0, onError: () => {} })
  const store = createRecordStore(db)
  for (let n = 1; n <= 50; n++) await store.write([makeRow({ id: String(n) })], store.newBase())
  await postgres.kill()
  await db.destroy()

  await postgres.start()
  const after = connectAs(postgres.superUrl)
  const { rows } = await sql`SELECT count(*)::integer AS stored FROM sluice.records`.execute(after)
  await after.destroy()
  t.same(rows, [{ stored: 50 }])
})
