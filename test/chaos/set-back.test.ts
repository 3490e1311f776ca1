import { execFile } from 'node:child_process'
import { rename, rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { openPostgres } from '../../scripts/durability/postgres.ts'
import { decodeOffset } from '../../src/lib/offset.ts'
import { migrate } from '../../src/postgres/migrate.ts'
import { createApp, type TestApp } from '../helpers/app.ts'
import { runCommand } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { FAST, ownFolder } from '../helpers/own-server.ts'
import { until } from '../helpers/until.ts'

const postgres = await openPostgres(await ownFolder(t), FAST)
t.teardown(() => postgres.close())
const { apiUrl, superUrl, home } = postgres
/** Each test begins with a copy of these files. Initialising new ones takes longer. */
const untouched = `${home.data}.untouched`
await postgres.stop('fast')
await copyFiles(home.data, untouched)

function copyFiles(from: string, to: string) {
  return promisify(execFile)('cp', ['-R', '-p', from, to])
}

/**
 * A server whose files can be copied and put back, like a snapshot of a volume. The system identifier and the timeline stay the
 * same, and the transaction ids go back.
 */
async function setUp(t: Test) {
  const ownerUrl = superUrl
  const copy = `${home.data}.copy`
  await rm(home.data, { recursive: true })
  await copyFiles(untouched, home.data)
  await postgres.start()
  t.teardown(() => postgres.stop('fast'))
  const root = async (statement: string) => {
    const db = connect(superUrl)
    await sql
      .raw(statement)
      .execute(db)
      .finally(() => db.destroy())
  }
  return {
    ownerUrl,
    root,
    start: () => createApp(t, {}, { name: 'sluice', apiUrl, superUrl, ownerUrl, maintenanceUrl: superUrl }),
    async restart() {
      await postgres.stop('fast')
      await postgres.start()
    },
    async takeCopy() {
      await postgres.stop('fast')
      await copyFiles(home.data, copy)
      await postgres.start()
    },
    async putBack() {
      const nextNumber = await nextNumberAt()
      await postgres.stop('fast')
      await rm(home.data, { recursive: true })
      await rename(copy, home.data)
      // Epochs are whole seconds. Two that begin within the same second would have the same number.
      await sleep(Math.max(0, nextNumber - Date.now()))
      await postgres.start()
    },
  }
}

/** The time from which epochs count, in milliseconds: see db/migrations/0007_epochs_by_start.sql. */
const FIRST_EPOCH = Date.UTC(2025)

/**
 * The time, in milliseconds, from which a new epoch gets a higher number than the last: by the clock or, after a leap, by the
 * seconds since the leap (db/migrations/0009_lost_positions.sql). 0 if the last number is far ahead of both, because the test
 * has set it.
 */
async function nextNumberAt(): Promise<number> {
  const db = connect(superUrl)
  const { rows } = await sql<{ epoch: number; started: string }>`
    SELECT epoch, extract(epoch FROM started_at) * 1000 AS started FROM sluice.epochs ORDER BY epoch DESC LIMIT 2`
    .execute(db)
    .finally(() => db.destroy())
  const [last, before] = rows
  if (last === undefined) return 0
  const soon = (at: number) => at < Date.now() + FAR_AHEAD_MS
  const byClock = FIRST_EPOCH + (last.epoch + 1) * 1000
  if (soon(byClock) || before === undefined) return byClock
  const sinceLeap = Number(before.started) + (last.epoch - before.epoch + 1) * 1000
  return soon(sinceLeap) ? sinceLeap : 0
}

const FAR_AHEAD_MS = 60_000

/** Puts the latest epoch ahead, as if the clock of the next host were behind. */
const MOVE_AHEAD =
  'UPDATE sluice.epochs SET epoch = epoch + 1000000 WHERE epoch = (SELECT max(epoch) FROM sluice.epochs)'

async function store({ post }: TestApp, ...ids: string[]): Promise<void> {
  for (const id of ids) {
    const { status, text } = await post({ source: 'shop', type: 't', id })
    if (status !== 201) throw new Error(text)
  }
}

/** Stores the offset of a consumer. After a start of the server, the first login may take too long. */
async function putConsumer({ app, key }: TestApp, offset: string, condition: Record<string, string>) {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...condition }
  const request = { method: 'PUT', url: '/v1/consumers/a', headers, payload: JSON.stringify({ offset }) } as const
  return until('the database', async () => {
    const response = await app.inject(request)
    return response.statusCode !== 503 && response
  })
}

/** The ids that a consumer gets after a cursor, and the cursor of the last one. */
async function follow({ get }: TestApp, after?: string): Promise<{ ids: string[]; cursor: string }> {
  // Reads have no hold window: they get 503 if the login takes three seconds, which it may after a start of the server.
  const { status, json, text } = await until('the database', async () => {
    const response = await get(`/v1/records?order=asc${after === undefined ? '' : `&cursor=${after}`}`)
    return response.status !== 503 && response
  })
  if (status !== 200) throw new Error(text)
  return { ids: json.records.map(({ id }: { id: string }) => id), cursor: json.records.at(-1)?.cursor }
}

// The system identifier and the timeline were those of the copy, so no new epoch began, and the consumer missed the new records.
t.test('after a copy of the files is put back, a consumer of lost records gets every new record', async (t) => {
  const { start, takeCopy, putBack } = await setUp(t)
  const first = await start()
  await store(first, '1', '2')
  await first.app.close()
  await takeCopy()

  const lost = await start()
  await store(lost, '3', '4', '5')
  const { ids, cursor } = await follow(lost)
  t.same(ids, ['1', '2', '3', '4', '5'])
  await lost.app.close()
  await putBack()

  const now = await start()
  t.same((await follow(now, cursor)).ids, [], 'no new records yet')
  await store(now, '6', '7')
  t.same((await follow(now, cursor)).ids, ['6', '7'])
  t.same((await follow(now)).ids, ['1', '2', '6', '7'])
})

t.test('an instance that has seen a lost epoch begins a higher one, and lost cursors are refused', async (t) => {
  const { start, takeCopy, putBack, root } = await setUp(t)
  const api = await start()
  await store(api, '1', '2')
  const created = await putConsumer(api, '-1', { 'if-none-match': '*' })
  await takeCopy()
  await store(api, '3')
  await root(MOVE_AHEAD)
  await store(api, '4', '5')
  const { ids, cursor } = await follow(api)
  t.same(ids, ['1', '2', '3', '4', '5'])
  const lost = await putConsumer(api, cursor, { 'if-match': created.headers.etag as string })
  t.equal(lost.statusCode, 200)
  await putBack()
  // An instance that has seen nothing begins the epoch of this start, by the clock.
  const other = await start()
  await store(other, '6')
  t.ok((decodeOffset(cursor)?.epoch as number) > (decodeOffset((await follow(other)).cursor)?.epoch as number))

  await store(api, '7', '8')
  await store(other, '9')
  for (const { get } of [api, other]) {
    // The consumer got 7 to 9, but never 6, which sorts before the cursor.
    for (const accept of ['application/json', 'application/x-ndjson']) {
      const refused = await get(`/v1/records?order=asc&cursor=${cursor}`, { accept })
      t.equal(refused.status, 409)
      t.match(JSON.parse(refused.text), { code: 'offset_ahead', detail: /list with order=asc and receivedFrom/ })
    }
  }
  t.equal((await putConsumer(other, '-1', { 'if-match': lost.headers.etag as string })).statusCode, 412)
  const stored = { 'if-match': created.headers.etag as string }
  t.match((await putConsumer(other, cursor, stored)).json(), { status: 409, code: 'offset_ahead' })
  const fromStart = await follow(other)
  t.equal((await putConsumer(other, fromStart.cursor, stored)).statusCode, 200, 'the consumer is that of the copy')
  t.same(fromStart.ids, ['1', '2', '6', '7', '8', '9'])
  await store(other, '10')
  t.same((await follow(api, fromStart.cursor)).ids, ['10'])
})

t.test('a cursor ahead of the clock is refused; "sluice epoch begin --after" goes beyond it', async (t) => {
  const { start, restart, takeCopy, putBack, root, ownerUrl } = await setUp(t)
  const first = await start()
  await store(first, '1')
  await first.app.close()
  await takeCopy()
  const lost = await start()
  await store(lost, '2')
  await root(MOVE_AHEAD)
  await store(lost, '3')
  const { cursor } = await follow(lost)
  await lost.app.close()
  await putBack()

  const now = await start()
  await store(now, '4')
  for (const accept of ['application/json', 'application/x-ndjson']) {
    const refused = await now.get(`/v1/records?order=asc&cursor=${cursor}`, { accept })
    t.equal(refused.status, 409)
    t.match(JSON.parse(refused.text), { code: 'offset_ahead', retryable: false, detail: /sluice epoch begin --after/ })
  }
  // The next start begins an empty epoch, so the epoch of record 4 is no longer the latest.
  await restart()
  t.equal((await now.get(`/v1/records?order=asc&cursor=${cursor}`)).status, 409)
  const command = runCommand(t, ['epoch', 'begin', '--after', cursor], { DATABASE_URL: ownerUrl })
  t.equal(await command.exit, 0, command.stderr())
  t.match(command.logs(), [{ level: 'info', epoch: (decodeOffset(cursor)?.epoch as number) + 1 }])
  await store(now, '5', '6')
  // Another consumer with a lost cursor continues only now. It would never get 4.
  const { status, json } = await now.get(`/v1/records?order=asc&cursor=${cursor}`)
  t.match({ status, json }, { status: 409, json: { code: 'offset_ahead', detail: /receivedFrom/ } })
  const { cursor: next, ids } = await follow(now)
  t.same(ids, ['1', '4', '5', '6'])
  await store(now, '7')
  t.same((await follow(now, next)).ids, ['7'])
})

// The manual on restoring says to run it before the first write.
t.test('"sluice epoch begin" without a cursor leaps over the epochs that were lost', async (t) => {
  const { start, takeCopy, putBack, root, ownerUrl } = await setUp(t)
  await takeCopy()
  const lost = await start()
  await store(lost, '1')
  await root(MOVE_AHEAD)
  await store(lost, '2')
  const { cursor } = await follow(lost)
  await lost.app.close()
  await putBack()
  const command = runCommand(t, ['epoch', 'begin'], { DATABASE_URL: ownerUrl })
  t.equal(await command.exit, 0, command.stderr())
  const now = await start()
  await store(now, '3')
  t.same((await follow(now, cursor)).ids, ['3'])
})

// After the leap, each start of the server added only one to the epoch. A lost epoch could be used a second time.
t.test('no epoch is used twice if a copy is put back that was taken after "sluice epoch begin"', async (t) => {
  const { start, takeCopy, putBack, ownerUrl } = await setUp(t)
  const command = runCommand(t, ['epoch', 'begin'], { DATABASE_URL: ownerUrl })
  t.equal(await command.exit, 0, command.stderr())
  await takeCopy()
  const lost = await start()
  await store(lost, ...Array.from({ length: 20 }, (_, id) => `lost ${id}`))
  const { cursor } = await follow(lost)
  await lost.app.close()
  await putBack()
  const now = await start()
  await store(now, '1')
  t.same((await follow(now, cursor)).ids, ['1'])
})

t.test('a restart begins an epoch and keeps the order; a migration begins none', async (t) => {
  const { start, takeCopy, root, ownerUrl } = await setUp(t)
  const api = await start()
  await store(api, '1')
  const before = await follow(api)
  await takeCopy()
  await store(api, '2')
  const after = await follow(api, before.cursor)
  t.same(after.ids, ['2'])
  const epoch = decodeOffset(after.cursor)?.epoch as number
  t.ok(epoch > (decodeOffset(before.cursor)?.epoch as number))

  // The schema of an older version, whose instances are still writing.
  await root(`
    ALTER TABLE sluice.epochs DROP COLUMN server_started_at, DROP COLUMN lost_from;
    DROP FUNCTION sluice.current_epoch;
    CREATE FUNCTION sluice.current_epoch() RETURNS integer LANGUAGE sql AS 'SELECT max(epoch) FROM sluice.epochs';
    DROP TABLE sluice.consumers, sluice.series, sluice.rollups, sluice.rollup_progress, sluice.storage_history;
    DELETE FROM sluice.migrations WHERE name >= '0007'`)
  const db = connect(ownerUrl)
  await migrate(db).finally(() => db.destroy())
  await store(api, '3')
  t.equal(decodeOffset((await follow(api, after.cursor)).cursor)?.epoch, epoch)
})
