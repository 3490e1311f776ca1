import { once } from 'node:events'
import { type AddressInfo, createServer, connect as dial } from 'node:net'
import { sql } from 'kysely'
import t from 'tap'
import { connect } from '../../src/postgres/connect.ts'
import { NotConnectedError } from '../../src/postgres/sqlstate.ts'
import { stopClock } from '../helpers/clock.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

t.test('a query does not wait for a slow login, and a later one uses the connection', async (t) => {
  const { apiUrl, superUrl } = await createDatabase(t)
  const root = connectAs(superUrl)
  // Longer than a query waits, shorter than a login may take.
  await sql`CREATE FUNCTION delay_login() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); END $$`.execute(
    root,
  )
  await sql`CREATE EVENT TRIGGER slow_login ON login EXECUTE FUNCTION delay_login()`.execute(root)
  await root.destroy()

  const db = connect({
    url: apiUrl,
    name: 'test',
    connections: 3,
    statementTimeoutMs: 0,
    loginMs: 100,
    onError: () => {},
  })
  t.teardown(() => db.destroy())
  let failures = 0
  const read = () => sql`SELECT 1`.execute(db)
  const tryToRead = () =>
    read().catch((error) => {
      if (!(error instanceof NotConnectedError)) throw error
      failures++
    })
  while ((await tryToRead()) === undefined);
  t.ok(failures > 0, `${failures} queries failed`)
  await read()
})

// By default, PostgreSQL checks after two hours. For that long, a COPY whose client's machine was gone held up the lists of all
// readers.
t.test('with the TCP keep-alive settings of a session, PostgreSQL detects a lost client within a minute', async (t) => {
  const { apiUrl } = await createDatabase(t)
  const db = connect({ url: apiUrl, name: 'test', connections: 1, statementTimeoutMs: 0, onError: () => {} })
  t.teardown(() => db.destroy())
  const { rows } = await sql<{ seconds: number }>`
    SELECT (idle.setting::integer + "interval".setting::integer * count.setting::integer) AS seconds
    FROM pg_settings AS idle, pg_settings AS "interval", pg_settings AS count
    WHERE idle.name = 'tcp_keepalives_idle' AND "interval".name = 'tcp_keepalives_interval'
      AND count.name = 'tcp_keepalives_count'`.execute(db)
  t.same(rows, [{ seconds: 60 }])
})

// The connection occupied the pool until TCP gave up, a quarter of an hour later. The pool for keys has only one connection.
t.test('a connection that stalls right after its login is replaced', async (t) => {
  const { apiUrl } = await createDatabase(t)
  const { hostname, port } = new URL(apiUrl)
  let isStalling = true
  const stalled = Promise.withResolvers<void>()
  const network = createServer((client) => {
    const server = dial(Number(port), hostname)
    let isLost = false
    for (const socket of [client, server]) socket.on('error', () => {})
    client.on('close', () => server.destroy())
    client.on('data', (bytes) => {
      isLost ||= isStalling && bytes.includes('SELECT pg_catalog.set_config')
      if (isLost) stalled.resolve()
      else server.write(bytes)
    })
    server.on('data', (bytes) => void client.write(bytes))
  }).listen(0, '127.0.0.1')
  await once(network, 'listening')
  t.teardown(() => network.close())

  const url = new URL(apiUrl)
  url.port = String((network.address() as AddressInfo).port)
  const db = connect({ url: url.href, name: 'test', connections: 1, statementTimeoutMs: 0, onError: () => {} })
  t.teardown(() => db.destroy())
  const clock = stopClock(t)
  const read = () => sql`SELECT 1`.execute(db)
  const reading = t.rejects(read(), NotConnectedError)
  await stalled.promise
  await clock.tick(3_000)
  await reading
  isStalling = false
  await t.resolves(read())
})
