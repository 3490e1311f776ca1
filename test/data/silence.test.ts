import type { Socket } from 'node:net'
import pg from 'pg'
import t from 'tap'
import { watchSilence } from '../../src/data/silence.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'

// The keys are read every two seconds, and two seconds of silence make a connection suspect: now and then a statement was
// sent in the very moment in which the silence before it was over, and its healthy connection was ended.
t.test('a statement that is sent as the silence before it comes to an end is let be', async (t) => {
  const { apiUrl } = await createDatabase(t)
  const client = new pg.Client({ connectionString: apiUrl })
  client.on('error', () => {})
  await client.connect()
  t.teardown(() => client.end())
  watchSilence(client, { connectionString: apiUrl })
  const { stream } = (client as unknown as { connection: { stream: Socket } }).connection

  const pids = new Set<number>()
  // For as long as somebody who asks after it takes to log in.
  for (let n = 0; n < 300; n++) {
    const answer = client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
    stream.emit('timeout')
    for (const { pid } of (await answer).rows) pids.add(pid)
  }
  t.equal(pids.size, 1)
})

// PostgreSQL has a hundred of them for everybody, and a statement of a minute is asked after thirty times.
t.test('who asks after a silent connection leaves no connection behind', async (t) => {
  const { apiUrl, superUrl } = await createDatabase(t)
  const root = new pg.Client({ connectionString: superUrl })
  const client = new pg.Client({ connectionString: apiUrl })
  client.on('error', () => {})
  await Promise.all([root.connect(), client.connect()])
  t.teardown(() => Promise.all([root.end(), client.end()]))
  watchSilence(client, { connectionString: apiUrl })
  const { stream } = (client as unknown as { connection: { stream: Socket } }).connection
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
