import type { Socket } from 'node:net'
import pg from 'pg'
import t, { type Test } from 'tap'
import { closeWhenDead } from '../../src/postgres/dead-connections.ts'
import { stopClock, turn } from '../helpers/clock.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'

// Keys are read every two seconds, and a connection is checked after two seconds of silence. Sometimes a statement was sent just
// when the timeout of the idle time before it fired, and its healthy connection was closed.
t.test('a statement that is sent when the silence timeout fires keeps its connection', async (t) => {
  const { client, stream } = await openWatched(t, (await createDatabase(t)).apiUrl)
  const pids = new Set<number>()
  // About as long as the login of the check takes.
  for (let n = 0; n < 300; n++) {
    const query = client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
    stream.emit('timeout')
    for (const { pid } of (await query).rows) pids.add(pid)
  }
  t.equal(pids.size, 1)
})

// The response had arrived but was not read yet, so the connection was closed as dead.
t.test('a connection is kept if the response arrived while this process was blocked', async (t) => {
  const { apiUrl } = await createDatabase(t)
  const { client, stream } = await openWatched(t, apiUrl)
  // This iteration of the event loop has read its sockets. Timers run next, and the response is read after them.
  await turn()
  const query = client.query('SELECT')
  stream.emit('timeout')
  // Longer than LAST_MOMENT_MS, the extra time before the check.
  for (const end = performance.now() + 600; performance.now() < end; );
  await query
  // Longer than the login of the check takes.
  for (let n = 0; n < 3; n++) await openClient(t, apiUrl)
  await t.resolves(client.query('SELECT'))
})

// PostgreSQL has a hundred connections for everyone, and a statement that takes a minute is checked thirty times.
t.test('the checks of a silent connection leave no connection behind', async (t) => {
  const { apiUrl, superUrl } = await createDatabase(t)
  const root = await openClient(t, superUrl)
  const { client, stream } = await openWatched(t, apiUrl)
  // However long the logins of the checks take, they do not time out.
  stopClock(t)
  await root.query('SELECT pg_advisory_lock(1)')
  const waiting = client.query('SELECT pg_advisory_lock(1)')
  const { setTimeout } = stream
  for (let times = 0; times < 3; times++) {
    // After a check that finds the statement running, the timeout is set again.
    const checked = new Promise<void>((resolve) => {
      stream.setTimeout = (ms) => {
        resolve()
        return setTimeout.call(stream, ms)
      }
    })
    stream.emit('timeout')
    await checked
  }
  await until('the connections of the checks to end', async () => {
    const { rows } = await root.query(
      "SELECT FROM pg_stat_activity WHERE application_name = 'sluice-watch' AND datname = current_database()",
    )
    return rows.length === 0
  })
  await root.query('SELECT pg_advisory_unlock(1)')
  t.equal((await waiting).rowCount, 1, 'the statement succeeds')
})

async function openClient(t: Test, connectionString: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString })
  client.on('error', () => {})
  await client.connect()
  t.teardown(() => client.end())
  return client
}

async function openWatched(t: Test, connectionString: string) {
  const client = await openClient(t, connectionString)
  closeWhenDead(client, connectionString)
  return { client, stream: (client as unknown as { connection: { stream: Socket } }).connection.stream }
}
