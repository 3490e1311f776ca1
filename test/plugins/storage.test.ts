import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mock } from 'node:test'
import { type Kysely, sql } from 'kysely'
import t, { type Test } from 'tap'
import { buildApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config.ts'
import { selectStorageSize } from '../../src/data/storage.ts'
import { createLogger } from '../../src/logger.ts'
import { createApp, type TestApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { openClient } from '../helpers/http.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { isProblem } from '../helpers/problem.ts'
import { exchange, head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const MiB = 1024 * 1024
const NDJSON = { 'content-type': 'application/x-ndjson' }
const record = (id: string | number) => `{"source":"shop","type":"t","id":"${id}"}`
const lines = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, n) => `${record(from + n)}\n`).join('')

/** The size of the write-ahead log, which all databases of the server share. It is larger than they are. */
async function sizeOfLog(t: Test): Promise<number> {
  const { superUrl } = await createDatabase(t)
  const db = connect(superUrl)
  return selectStorageSize(db as never)
    .then(({ wal }) => wal)
    .finally(() => db.destroy())
}

/** How often a server measures (test/retention/storage-budget.test.ts): here, the test controls the timer. */
const MEASURE_MS = 5_000

/** Advances the clock until the size has been measured again and `ask` returns something. */
async function measured<T>(what: string, ask: () => T | undefined | false): Promise<T> {
  return until(what, () => {
    const found = ask()
    if (found === undefined || found === false) mock.timers.tick(MEASURE_MS)
    return found
  })
}

/** A server whose storage budget is spent when the files of the database reach `files` bytes. */
async function setUp(t: Test, files: number, settings: Record<string, string> = {}) {
  const budget = Math.round((files + (await sizeOfLog(t))) / 0.9)
  mock.timers.enable({ apis: ['setInterval'] })
  const server = await createApp(t, { STORAGE_BUDGET: String(budget), ...settings })
  // Before the server closes, which needs a real interval.
  t.teardown(() => mock.timers.reset())
  await server.app.ready()
  const owner = connect(server.database.ownerUrl)
  t.teardown(() => owner.destroy())
  const { storage } = server.app
  await until('the first measurement', () => storage.usedBytes !== undefined)
  return { ...server, owner, storage, budget }
}

/** Random, so that it cannot be compressed. */
const PAYLOAD = JSON.stringify(randomBytes(9_000).toString('base64'))

async function fill(db: Kysely<unknown>, megabytes: number): Promise<void> {
  await sql`
    INSERT INTO sluice.records (epoch, n, source, id, type, data)
    SELECT 1, n, 'fill', n, 't', ${PAYLOAD}::json FROM generate_series(1, ${megabytes * 80}::integer) AS n`.execute(db)
}

const messages = ({ logs }: TestApp) => logs.filter(({ msg }) => String(msg).includes('storage budget'))

t.test('when the budget is spent, only ingestion is refused, in every form and before its body is sent', async (t) => {
  const server = await setUp(t, 40 * MiB)
  const { app, post, get, owner, storage, key } = server
  t.equal((await post(record(1))).status, 201)
  t.equal(storage.budgetBytes, server.budget)
  await fill(owner, 40)
  const usedBytes = await measured('the budget to be spent', () => storage.state === 'full' && storage.usedBytes)

  const answer = await post(record(2))
  isProblem(t, answer, 'storage_full')
  t.equal(answer.headers['retry-after'], '30')
  isProblem(t, await post(lines(1, 3), NDJSON), 'storage_full')
  isProblem(t, await post(`[${record(2)}]`, { prefer: 'handling=strict' }), 'storage_full')
  const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json', 'Content-Length': '10000000' }
  isProblem(t, await exchange(await listen(app), head('POST', '/v1/records', headers)), 'storage_full')
  t.equal(app.ingestMemory.used, 0)
  isProblem(t, await post(record(2), { authorization: 'Bearer nobody' }), 'unauthorized')

  t.equal((await get('/v1/records/shop/1')).status, 200)
  t.equal((await get('/v1/records/shop/2')).status, 404)
  t.equal((await get('/v1/records?limit=1')).status, 200)
  t.equal((await get('/readyz')).status, 200)
  t.match(messages(server).at(-1), { level: 'error', budgetBytes: server.budget, usedBytes })
  const refusals = messages(server).filter(({ level }) => level === 'error')
  t.equal(refusals.length, 1, 'one line for the change, and not one per request')
})

t.test('deleted and vacuumed rows make room again, although the files do not shrink', async (t) => {
  const { storage, owner, budget, database } = await setUp(t, 100 * MiB)
  await fill(owner, 105)
  await measured('the budget to be spent', () => storage.state === 'full')

  const size = async () => (await selectStorageSize(owner as never)).files
  const files = await size()
  await sql`DELETE FROM sluice.records`.execute(owner)
  await sql`SELECT pg_stat_force_next_flush()`.execute(owner)
  // One row at the end, or VACUUM would shrink the files.
  await sql`INSERT INTO sluice.records (epoch, n, source, id, type) VALUES (1, 1, 'last', '1', 't')`.execute(owner)
  await sql`VACUUM (TRUNCATE false) sluice.records`.execute(owner)
  t.ok((await size()) >= files)
  // This instance waits until it is sure (see test/retention/storage-budget.test.ts). One that starts now has room.
  const settings = loadConfig({ DATABASE_URL: database.apiUrl, STORAGE_BUDGET: String(budget) })
  const app = await buildApp(settings, createLogger('silent'))
  t.teardown(() => app.close())
  await app.ready()
  await until('a measurement', () => app.storage.usedBytes !== undefined)
  t.not(app.storage.state, 'full')
  t.ok((app.storage.usedBytes as number) < budget * 0.85, `${app.storage.usedBytes} of ${budget}`)
})

t.test('a stream that spends the budget is ended, and the problem reports how far it got', async (t) => {
  const { app, key, database } = await setUp(t, 24 * MiB)
  const client = openClient(t, await listen(app), key)
  const data = randomBytes(1000).toString('hex')
  const long = (id: number) => `{"source":"long","type":"t","id":"${id}","data":"${data}"}\n`
  const chunk = (n: number) => Buffer.from(Array.from({ length: 500 }, (_, m) => long(n * 500 + m)).join(''))
  const { request, answer: coming } = client.open('POST', '/v1/records', NDJSON)
  let sent = 0
  // Many times more than fits.
  while (sent < 60) {
    if (
      !request.write(chunk(sent++)) &&
      (await Promise.race([once(request, 'drain'), coming.then(() => 'over')])) === 'over'
    )
      break
  }
  const answer = await coming
  request.destroy()
  isProblem(t, answer, 'storage_full', { outcome: 'unknown' })
  const { counts, committedLines } = answer.json
  t.ok(committedLines > 0 && committedLines < sent * 500, `${committedLines} of ${sent * 500} lines`)
  t.equal(counts.created, committedLines)
  const db = connect(database.superUrl)
  const { rows } = await sql<{ n: number }>`SELECT count(*)::integer AS n FROM sluice.records`
    .execute(db)
    .finally(() => db.destroy())
  t.equal(rows[0]?.n, committedLines, 'the same number is stored')
  t.equal(app.ingestMemory.used, 0)
})

t.test('a size that cannot be measured is logged once, and the last size still counts', async (t) => {
  const server = await setUp(t, 100 * MiB)
  const { owner, storage, logs } = server
  const failures = () => logs.filter(({ msg }) => String(msg).startsWith('the size of the database')).length
  await sql`REVOKE SELECT ON sluice.records FROM sluice_api`.execute(owner)
  // Free space is measured only from 80 % on.
  await fill(owner, 96)
  await measured('a failure', () => failures() > 0)
  const used = storage.usedBytes
  storage.add(server.budget)
  isProblem(t, await server.post(record(1)), 'storage_full')
  t.equal(storage.usedBytes, used)
  t.equal(failures(), 1)
})
