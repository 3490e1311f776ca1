import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { openClient } from '../helpers/http.ts'
import { listen } from '../helpers/socket.ts'

const MiB = 1024 * 1024

// One key alone may hold half of QUEUE_MAX_BYTES, which is two such batches.
t.test('when three keys each send two of the largest batches at the same time, all are stored', async (t) => {
  // A batch waits for those before it. On a slow machine, this takes longer than the default hold window.
  const { app, makeKey } = await createApp(t, { OUTAGE_HOLD_SECONDS: '3600' })
  const port = await listen(app)
  const largest = 16 * MiB
  const data = JSON.stringify(Array.from({ length: 180 }, (_, n) => n * 1_000_003))
  const batch = (name: string) => {
    const records = Array.from({ length: 9000 }, (_, n) => `{"source":"${name}","type":"t","id":"${n}","data":${data}}`)
    return `[${records.join()}]`
  }
  t.ok(batch('0-0').length > 0.9 * largest && batch('0-0').length < largest, `${batch('0-0').length} bytes`)

  const statuses: number[] = []
  await Promise.all(
    [1, 2, 3].map(async (number) => {
      const client = openClient(t, port, (await makeKey()).token)
      for (let times = 0; times < 2; times++) {
        const headers = { 'content-type': 'application/json', prefer: 'return=minimal' }
        statuses.push((await client.send('POST', '/v1/records', headers, batch(`${number}-${times}`))).status)
      }
    }),
  )
  t.same(statuses, new Array(6).fill(201))
})
