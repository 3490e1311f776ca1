import { once } from 'node:events'
import { type AddressInfo, createServer, connect as dial } from 'node:net'
import { sql } from 'kysely'
import t from 'tap'
import { connect } from '../../src/data/connect.ts'
import { NotConnectedError } from '../../src/data/sqlstate.ts'
import { stopClock } from '../helpers/clock.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

t.test('who tries again does not wait for a slow login, and finds it done at a later try', async (t) => {
  const { apiUrl, superUrl } = await createDatabase(t)
  const root = connectAs(superUrl)
  // Longer than a try waits, shorter than a login may take.
  await sql`CREATE FUNCTION linger() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); END $$`.execute(
    root,
  )
  await sql`CREATE EVENT TRIGGER slow_login ON login EXECUTE FUNCTION linger()`.execute(root)
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
  const tried = () =>
    read().catch((error) => {
      if (!(error instanceof NotConnectedError)) throw error
      failures++
    })
  while ((await tried()) === undefined);
  t.ok(failures > 0, `${failures} tries were in vain`)
  await read()
})

// PostgreSQL asks after two hours by itself. So long a COPY, whose client's machine is gone, held up the lists of all readers.
t.test('PostgreSQL looks within a minute whether a client is there of which it hears nothing', async (t) => {
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

// It kept its place until TCP gave up, a quarter of an hour later. The pool for keys has one place.
t.test('a connection that falls silent right after its login gives its place to another', async (t) => {
  const { apiUrl } = await createDatabase(t)
  const { hostname, port } = new URL(apiUrl)
  let silent = true
  const fallen = Promise.withResolvers<void>()
  const network = createServer((client) => {
    const server = dial(Number(port), hostname)
    let lost = false
    for (const socket of [client, server]) socket.on('error', () => {})
    client.on('close', () => server.destroy())
    client.on('data', (bytes) => {
      lost ||= silent && bytes.includes('SELECT set_config')
      if (lost) fallen.resolve()
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
  await fallen.promise
  await clock.tick(3_000)
  await reading
  silent = false
  await t.resolves(read())
})
