import { sql } from 'kysely'
import t from 'tap'
import { insertConsumer, selectConsumers, updateConsumer } from '../../src/data/consumers.ts'
import { connect as connectApi } from '../../src/postgres/connect.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

const { apiUrl, ownerUrl } = await createDatabase(t)
const db = connect(ownerUrl)
t.teardown(() => db.destroy())

const START = { epoch: 0, xid: '0', n: 0 }

t.test('why a consumer is not created is part of the same statement', async (t) => {
  t.match(await insertConsumer(db as never, 'a', START), { name: 'a', xid: '0', overtaken_at: null })
  t.equal(await insertConsumer(db as never, 'a', START), 'exists')
  await sql`
    INSERT INTO sluice.consumers (name, epoch, xid, n)
    SELECT number::text, 0, '0', 0 FROM generate_series(1, 998) AS number`.execute(db)
  t.match(await insertConsumer(db as never, 'last', START), { name: 'last' })
  t.equal(await insertConsumer(db as never, 'b', START), 'full')
})

// A prepared statement failed (0A000) until its connection was closed, so each request was 500.
t.test('the instances of the previous version still work when a migration has added a column', async (t) => {
  const settings = { name: 'prepared', connections: 1, statementTimeoutMs: 60_000, prepare: true, onError: () => {} }
  const api = connectApi({ url: apiUrl, ...settings })
  t.teardown(() => api.destroy())
  const { signal } = new AbortController()
  const use = async () => {
    t.match(await updateConsumer(api, 'a', START, 'any'), { name: 'a' })
    t.match(await selectConsumers(api, 'a', signal), [{ name: 'a' }])
    t.equal((await selectConsumers(api, undefined, signal)).length, 1000)
    t.equal(await insertConsumer(api, 'a', START), 'full')
  }
  await use()
  await sql`ALTER TABLE sluice.consumers ADD COLUMN later integer`.execute(db)
  await use()
})
