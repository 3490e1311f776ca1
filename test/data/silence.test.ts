import type { Socket } from 'node:net'
import pg from 'pg'
import t from 'tap'
import { watchSilence } from '../../src/data/silence.ts'
import { createDatabase } from '../helpers/postgres.ts'

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
