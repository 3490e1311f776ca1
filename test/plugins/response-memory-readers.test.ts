import { sql } from 'kysely'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { openClient } from '../helpers/http.ts'
import { untilBlocked } from '../helpers/locks.ts'
import { isProblem } from '../helpers/problem.ts'
import { listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const MiB = 1024 * 1024
const { app, key, post, get, makeKey, database } = await createApp(t, { UNREAD_MAX_BYTES: String(12 * MiB) })
const port = await listen(app)
const NDJSON = { accept: 'application/x-ndjson' }
const text = 'x'.repeat(900_000)
for (let id = 0; id < 10; id++) await post({ source: 's', type: 't', id: String(id), data: text })

// Each stalled reader held a page of up to 16 MiB, and the number of readers had no bound.
t.test('unread responses are bounded, and further ones are refused until there is room', async (t) => {
  for (const [path, headers] of [
    ['/v1/records?limit=10', {}],
    ['/v1/records', NDJSON],
  ] as const) {
    const readers = []
    while (app.responseMemory.used < 8 * MiB) {
      // Each reader has its own key, because one key has only a share.
      const reader = await openClient(t, port, (await makeKey()).token).read(path, headers)
      t.equal(reader.statusCode, 200, path)
      readers.push(reader.on('error', () => {}))
    }
    for (const refused of [await get('/v1/records?limit=10'), await get('/v1/records?limit=10')]) {
      isProblem(t, refused, 'overloaded')
      t.match(refused.headers['retry-after'], /^\d+$/)
    }
    for (const reader of readers) reader.destroy()
    await until('their memory to be released', () => app.responseMemory.used === 0)
    t.equal((await get('/v1/records?limit=10')).status, 200)
  }
})

t.test('nothing stays reserved after a response or a disconnect', async (t) => {
  for (const path of ['/v1/records', '/v1/records?limit=0', '/v1/records/s/1', '/v1/records/s/none'])
    for (const accept of ['*/*', 'text/csv', 'text/html']) await get(path, { accept })
  await until('all memory to be released', () => app.responseMemory.used === 0)

  // A client that disconnects before its response is ready.
  const db = connect(database.superUrl)
  t.teardown(() => db.destroy())
  await db.transaction().execute(async (trx) => {
    await sql`LOCK TABLE sluice.records`.execute(trx)
    const { request, answer } = openClient(t, port, key).open('GET', '/v1/records')
    request.end()
    await untilBlocked(trx, 'sluice.records')
    request.destroy()
    await t.rejects(answer)
  })
  t.equal((await get('/v1/records?limit=1')).status, 200)
  await until('all memory to be released', () => app.responseMemory.used === 0)
})
