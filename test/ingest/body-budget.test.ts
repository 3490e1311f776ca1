import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import t from 'tap'
import { readBody } from '../../src/ingest/body.ts'
import { MemoryBudget } from '../../src/lib/memory-budget.ts'
import { createApp } from '../helpers/app.ts'
import { turn } from '../helpers/clock.ts'
import { isProblem } from '../helpers/problem.ts'
import { chunked, exchange, head, listen } from '../helpers/socket.ts'

const LIMITS = { maxBatchBytes: 8192, maxRecordBytes: 8192 }

// A chunked body has no Content-Length, and a compressed body inflates to more than its Content-Length. Without these
// bytes, the budget would not bound the memory of the process.
t.test('bytes beyond Content-Length are reserved as they arrive', async (t) => {
  const budget = new MemoryBudget(16_384, 'Later.')
  const stream = new Readable({ read() {} })
  const reading = readBody(stream, 100, LIMITS, budget.openReservation('a key'))
  t.equal(budget.used, 100)
  for (const bytes of [1000, 2000, 3000]) {
    stream.push(' '.repeat(1000))
    await turn()
    t.equal(budget.used, bytes)
  }
  stream.push(null)
  t.equal((await reading).length, 3000)
})

t.test('a chunked or compressed body that grows beyond the free memory is refused', async (t) => {
  const { app, key } = await createApp(t, {
    MAX_BATCH_BYTES: '8192',
    MAX_RECORD_BYTES: '8192',
    QUEUE_MAX_BYTES: '40000',
  })
  const port = await listen(app)
  const record = Buffer.from(`{"source":"s","type":"t","data":"${'x'.repeat(7000)}"}`)
  const compressed = gzipSync(record)
  const post = (headers: Record<string, string>) =>
    head('POST', '/v1/records', { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json', ...headers })
  // The rest is enough for the request and half of its body.
  app.ingestMemory.reserve('another key', 25_000)
  for (const [name, headers, pieces] of [
    ['chunked', { 'Transfer-Encoding': 'chunked' }, [...chunked(record.subarray(0, 3500), record.subarray(3500))]],
    ['compressed', { 'Content-Length': String(compressed.length), 'Content-Encoding': 'gzip' }, [compressed]],
  ] as const) {
    isProblem(t, await exchange(port, post(headers), ...pieces), 'overloaded', { name })
    t.equal(app.ingestMemory.used, 25_000, `${name}: the memory is given back`)
  }
})
