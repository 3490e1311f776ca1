import { once } from 'node:events'
import { type AddressInfo, createServer, connect as dial } from 'node:net'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { createRecordStore } from '../../src/data/record-store.ts'
import { connect } from '../../src/postgres/connect.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { makeRow } from '../helpers/rows.ts'
import { until } from '../helpers/until.ts'

// Each of these tests waits for seconds, so they run at the same time.
t.jobs = 2

// If a host disappears during a transaction, its connection is not closed. A retry through another instance waits for its locks,
// and so does every record with one of its identities.
t.test('a connection that stalls during a transaction loses its locks', { buffered: true }, async (t) => {
  const { apiUrl } = await createDatabase(t)
  const ended: Error[] = []
  const options = { url: apiUrl, name: 'test', connections: 1, statementTimeoutMs: 0 }
  const db = connect({ ...options, onError: (error) => ended.push(error) })
  const other = connectAs(apiUrl)
  t.teardown(() => Promise.all([db.destroy(), other.destroy()]))

  const insert = (n: number) => sql`
    INSERT INTO sluice.records (epoch, n, source, id, type)
    VALUES (sluice.current_epoch(), ${n}, 'shop', '1', 'order.placed')`
  const [begun, testDone] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const stalled = db.transaction().execute(async (trx) => {
    await insert(1).execute(trx)
    begun.resolve()
    await testDone.promise
  })
  await begun.promise
  // Far longer than needed: if nothing ends the transaction, the test fails instead of hanging.
  await sql`SET lock_timeout = '60s'`.execute(other)
  await insert(2).execute(other)
  await until('the connection to end', () => ended.length > 0)
  testDone.resolve()
  await t.rejects(stalled)
  t.match(ended[0], { code: '25P03' }, 'idle_in_transaction_session_timeout')
})

// PostgreSQL waited five seconds for the statement and then ended the session, on each retry. The client got 503 as in an outage.
t.test('a strict batch that takes longer than the timeout to arrive is stored', { buffered: true }, async (t) => {
  const { apiUrl, superUrl } = await createDatabase(t)
  const root = connectAs(superUrl)
  t.teardown(() => root.destroy())
  const network = await openSlowNetwork(t, apiUrl, async () => {
    // No event shows that a timeout did not fire.
    await sql`SELECT pg_sleep(6)`.execute(root)
  })
  const options = {
    url: network.url,
    name: 'test',
    connections: 1,
    statementTimeoutMs: 0,
    prepare: true,
  }
  const db = connect({ ...options, onError: () => {} })
  t.teardown(() => db.destroy())
  const store = createRecordStore(db)
  // From now on, the statement is prepared, and its Bind is the first message after BEGIN.
  await store.writeStrict([makeRow({ id: 'small' })], store.newBase())
  const large = makeRow({ id: 'large', data: JSON.stringify('x'.repeat(network.large)) })
  t.match(await store.writeStrict([large], store.newBase()), [{ status: 'created' }])
  t.equal(network.held(), 1)
})

/** A network that delays the rest of a large chunk until `pause` resolves. */
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
