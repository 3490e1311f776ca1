import { sql } from 'kysely'
import t from 'tap'
import { connect } from '../../src/data/connect.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

// A host that is gone amid a transaction says no goodbye. What is sent again elsewhere waits for its locks, and so does
// every record with one of its identities.
t.test('a connection that goes silent amid a transaction loses its locks within seconds', async (t) => {
  const { apiUrl } = await createDatabase(t)
  const ended: Error[] = []
  const options = { url: apiUrl, name: 'test', connections: 1, statementTimeoutMs: 0 }
  const db = connect({ ...options, onError: (error) => ended.push(error) })
  const other = connectAs(apiUrl)
  t.teardown(() => Promise.all([db.destroy(), other.destroy()]))

  const insert = (n: number) => sql`
    INSERT INTO sluice.records (epoch, n, source, id, type)
    VALUES (sluice.current_epoch(), ${n}, 'shop', '1', 'order.placed')`
  const [begun, over] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const silent = db.transaction().execute(async (trx) => {
    await insert(1).execute(trx)
    begun.resolve()
    await over.promise
  })
  await begun.promise
  // Far more than it takes, so that this fails, and does not hang, where nothing ends the transaction.
  await sql`SET lock_timeout = '60s'`.execute(other)
  await insert(2).execute(other)
  over.resolve()
  await t.rejects(silent)
  t.match(ended[0], { code: '25P03' }, 'idle_in_transaction_session_timeout')
})
