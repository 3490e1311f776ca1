import { once } from 'node:events'
import { type AddressInfo, createServer, connect as dial } from 'node:net'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { connect } from '../../src/data/connect.ts'
import { createRecordStore } from '../../src/data/record-store.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { makeRow } from '../helpers/rows.ts'
import { until } from '../helpers/until.ts'

// Each of them waits for seconds: they do so together.
t.jobs = 2

// A host that is gone amid a transaction says no goodbye. What is sent again elsewhere waits for its locks, and so does
// every record with one of its identities.
t.test(
  'a connection that goes silent amid a transaction loses its locks within seconds',
  { buffered: true },
  async (t) => {
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
    await until('the end of the connection', () => ended.length > 0)
    over.resolve()
    await t.rejects(silent)
    t.match(ended[0], { code: '25P03' }, 'idle_in_transaction_session_timeout')
  },
)

// "The database is away" was the answer, each time: PostgreSQL had waited for five seconds, and ended the session.
t.test('a strict batch whose bytes take longer than that to come is stored', { buffered: true }, async (t) => {
  const { apiUrl, superUrl } = await createDatabase(t)
  const root = connectAs(superUrl)
  t.teardown(() => root.destroy())
  const network = await openSlowNetwork(t, apiUrl, async () => {
    // Nothing announces that no timeout strikes.
    await sql`SELECT pg_sleep(6)`.execute(root)
  })
  const options = { url: network.url, name: 'test', connections: 1, statementTimeoutMs: 0, prepare: true }
  const db = connect({ ...options, onError: () => {} })
  t.teardown(() => db.destroy())
  const store = createRecordStore(db)
  // From here on the statement is prepared: its Bind is the first message after BEGIN.
  await store.writeStrict([makeRow({ id: 'small' })], store.newBase())
  const large = makeRow({ id: 'large', data: JSON.stringify('x'.repeat(network.large)) })
  t.match(await store.writeStrict([large], store.newBase()), [{ status: 'created' }])
  t.equal(network.held(), 1)
})

/** A network on which the rest of a large piece takes as long as `pause`. */
async function openSlowNetwork(t: Test, url: string, pause: () => Promise<void>) {
  const large = 16 * 1024
  const { hostname, port } = new URL(url)
  let held = 0
  const server = createServer((client) => {
    const database = dial(Number(port), hostname)
    for (const socket of [client, database]) socket.on('error', () => {}).on('close', () => client.destroy())
    client.on('close', () => database.destroy())
    database.pipe(client)
    client.on('data', async (bytes) => {
      database.write(bytes.subarray(0, 1000))
      if (bytes.length > large) {
        held++
        client.pause()
        await pause()
        client.resume()
      }
      database.write(bytes.subarray(1000))
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  const slow = new URL(url)
  slow.host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  return { url: slow.href, large, held: () => held }
}
