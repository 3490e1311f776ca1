import { sql } from 'kysely'
import t from 'tap'
import { insertConsumer } from '../../src/data/consumers.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

const db = connect((await createDatabase(t)).ownerUrl)
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
