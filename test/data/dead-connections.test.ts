import type { Socket } from 'node:net'
import pg from 'pg'
import t, { type Test } from 'tap'
import { closeWhenDead } from '../../src/data/dead-connections.ts'
import { stopClock, turn } from '../helpers/clock.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'

// The keys are read every two seconds, and two seconds of silence make a connection suspect: now and then a statement was
// sent in the very moment in which the silence before it was over, and its healthy connection was ended.
t.test('a statement that is sent as the silence before it comes to an end is let be', async (t) => {
  const { client, stream } = await openWatched(t, (await createDatabase(t)).apiUrl)
  const pids = new Set<number>()
  // For as long as somebody who asks after it takes to log in.
  for (let n = 0; n < 300; n++) {
    const answer = client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
    stream.emit('timeout')
    for (const { pid } of (await answer).rows) pids.add(pid)
  }
  t.equal(pids.size, 1)
})

// What had come meanwhile was not read yet, and so a connection that had its answer was ended as dead.
t.test('a statement that was answered while this process stood still is let be', async (t) => {
  const { apiUrl } = await createDatabase(t)
  const { client, stream } = await openWatched(t, apiUrl)
  // After the turn's reading: its timers come next, and the answer is read after them.
  await turn()
  const answer = client.query('SELECT')
  stream.emit('timeout')
  // Longer than the last moment that a silent statement has.
  for (const end = performance.now() + 600; performance.now() < end; );
  await answer
  // As long as somebody who asks after it takes to log in, and longer.
  for (let n = 0; n < 3; n++) await openClient(t, apiUrl)
  await t.resolves(client.query('SELECT'))
})

// PostgreSQL has a hundred of them for everybody, and a statement of a minute is asked after thirty times.
t.test('who asks after a silent connection leaves no connection behind', async (t) => {
  const { apiUrl, superUrl } = await createDatabase(t)
  const root = await openClient(t, superUrl)
  const { client, stream } = await openWatched(t, apiUrl)
  // However long those who ask take to log in, their time is not up.
  stopClock(t)
  await root.query('SELECT pg_advisory_lock(1)')
  const waiting = client.query('SELECT pg_advisory_lock(1)')
  const { setTimeout } = stream
  for (let times = 0; times < 3; times++) {
    // When it was told that the statement is worked on, the time begins anew.
    const told = new Promise<void>((resolve) => {
      stream.setTimeout = (ms) => {
        resolve()
        return setTimeout.call(stream, ms)
      }
    })
    stream.emit('timeout')
    await told
  }
  await until('the connections of those who asked to end', async () => {
    const { rows } = await root.query(
      "SELECT FROM pg_stat_activity WHERE application_name = 'sluice-watch' AND datname = current_database()",
    )
    return rows.length === 0
  })
  await root.query('SELECT pg_advisory_unlock(1)')
  t.equal((await waiting).rowCount, 1, 'and the statement was left alone')
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
  closeWhenDead(client, { connectionString })
  return { client, stream: (client as unknown as { connection: { stream: Socket } }).connection.stream }
}
