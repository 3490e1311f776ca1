import { sql } from 'kysely'
import t from 'tap'
import { openWithStandby } from '../../scripts/durability/standby.ts'
import { copyRecords } from '../../src/data/copy-records.ts'
import { offsetStateOf } from '../../src/data/epochs.ts'
import { insertRecords, toColumns } from '../../src/data/insert-records.ts'
import { selectHorizon } from '../../src/data/listing.ts'
import { createRecordStore } from '../../src/data/record-store.ts'
import { decodeOffset, encodeOffset, type Position } from '../../src/lib/offset.ts'
import { connect as open } from '../../src/postgres/connect.ts'
import { classifyFailure } from '../../src/postgres/sqlstate.ts'
import { createApp } from '../helpers/app.ts'
import { runCommand } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { FAST, ownFolder } from '../helpers/own-server.ts'
import { makeRow } from '../helpers/rows.ts'
import { until } from '../helpers/until.ts'

const primary = await openWithStandby(await ownFolder(t), FAST)
t.teardown(() => primary.close())
const { apiUrl, superUrl, standby } = primary
const database = { name: 'sluice', apiUrl, superUrl, ownerUrl: superUrl, maintenanceUrl: superUrl }
// Requests that wait for the standby reach the end of this window only if something hangs.
const SETTINGS = { DATABASE_READ_URL: standby.apiUrl, OUTAGE_HOLD_SECONDS: '300' }
const { post, get } = await createApp(t, SETTINGS, database)
// Enough new records that the next ones are copied.
await post(Array.from({ length: 10_000 }, (_, id) => ({ source: 'first', type: 't', id: String(id) })))

const root = connect(superUrl, 2)
t.teardown(() => root.destroy())

/** The ids of a source in lists upwards from the standby: in a page, and in an export. */
async function list(source: string): Promise<{ page: string[]; lines: string[] }> {
  await standby.catchUp()
  const path = `/v1/records?order=asc&source=${source}`
  const ids = (records: { id: string }[]) => records.map(({ id }) => id)
  const { text } = await get(path, { accept: 'application/x-ndjson' })
  const lines = text.split('\n').filter((line) => line !== '')
  return { page: ids((await get(path)).json.records), lines: ids(lines.map((line) => JSON.parse(line))) }
}

const both = (...ids: string[]) => ({ page: ids, lines: ids })

// A standby does not show what runs on the primary. It knows it only from the write-ahead log, so a list ends at its xmin.
for (const early of [true, false]) {
  const state = early ? 'that has written' : 'that has not written yet'
  t.test(`a list upwards from a standby waits for an open transaction of the primary ${state}`, async (t) => {
    const source = `open-${early}`
    const insert = sql`
      INSERT INTO sluice.records (epoch, n, source, id, type)
      VALUES (sluice.current_epoch(), 0, ${source}, '2', 't')`
    await post({ source, type: 't', id: '1' })
    t.same(await list(source), both('1'))

    const trx = await root.startTransaction().execute()
    await (early ? insert : sql`SELECT pg_current_xact_id()`).execute(trx)
    await post({ source, type: 't', id: '3' })
    t.same(await list(source), both('1'), 'not 3, because its cursor would skip 2')
    t.equal((await get(`/v1/records?source=${source}`)).json.records[0].id, '3', 'a list downwards shows it')

    if (!early) await insert.execute(trx)
    await trx.commit().execute()
    t.same(await list(source), both('1', '2', '3'))
  })
}

// A standby that lags is behind cursors of the primary, like a database that was set back. Only the latter must be refused.
t.test('a list from a standby that lags behind the cursor is empty', async (t) => {
  const path = '/v1/records?order=asc&source=lagging'
  await post({ source: 'lagging', type: 't', id: '1' })
  const { page } = await list('lagging')
  t.same(page, ['1'])
  const replica = connect(Object.assign(new URL(superUrl), { port: String(standby.port) }).href)
  t.teardown(() => replica.destroy())
  await sql`SELECT pg_wal_replay_pause()`.execute(replica)
  await until('the replay to pause', async () => {
    const { rows } = await sql<{ state: string }>`SELECT pg_get_wal_replay_pause_state() AS state`.execute(replica)
    return rows[0]?.state === 'paused'
  })
  const { json } = await post({ source: 'lagging', type: 't', id: '2' })
  const response = await get(`${path}&cursor=${json.results[0].cursor}`)
  t.match(response, { status: 200, json: { records: [] } })
  const { epoch } = decodeOffset(json.results[0].cursor) as Position
  const ahead = encodeOffset({ epoch: epoch + 1, xid: '1', n: 1 })
  t.match(await get(`${path}&cursor=${ahead}`), { status: 409, json: { code: 'offset_ahead' } })
  await sql`SELECT pg_wal_replay_resume()`.execute(replica)
  t.same((await list('lagging')).page, ['1', '2'])
})

// Lists from the primary do not wait for it (test/read/records.test.ts): pg_stat_activity shows its database.
t.test('a list upwards from a standby waits for a transaction in another database of the primary', async (t) => {
  const elsewhere = connect(new URL('/postgres', superUrl).href)
  t.teardown(() => elsewhere.destroy())
  const trx = await elsewhere.startTransaction().execute()
  await sql`CREATE TABLE elsewhere ()`.execute(trx)
  await post({ source: 'elsewhere', type: 't', id: '1' })
  t.same(await list('elsewhere'), both())
  await trx.commit().execute()
  t.same(await list('elsewhere'), both('1'))
})

// If a session is terminated while it waits for the standby, by an administrator or by a crash, its commit remains. The retry
// found the row and reported `created`. If the primary was lost then, the record was lost. If the wait is cancelled, PostgreSQL
// reports success with a warning.
for (const how of ['terminate', 'cancel'] as const) {
  for (const [name, count, headers] of [
    ['a record', 1, {}],
    ['a strict batch', 2, { prefer: 'handling=strict' }],
    ['a copied batch', 20, {}],
  ] as const) {
    const verb = { terminate: 'terminated', cancel: 'cancelled' }[how]
    t.test(`${name} whose wait for the standby is ${verb} is acknowledged only when the standby has it`, async (t) => {
      const source = `alone-${how}-${count}`
      const heal = await standby.isolate()
      t.teardown(heal)
      const records = Array.from({ length: count }, (_, id) => ({ source, type: 't', id: String(id) }))
      let isAnswered = false
      const response = post(records, headers).finally(() => {
        isAnswered = true
      })
      const findWaiting = async () => {
        const { rows } = await sql<{ pid: number; begin: string }>`
          SELECT pid, query_start::text AS begin FROM pg_stat_activity
          WHERE wait_event = 'SyncRep' AND application_name = 'sluice-write'`.execute(root)
        return rows[0]
      }
      for (let times = 0; times < 2; times++) {
        const first = await until('a commit that waits for the standby', findWaiting)
        await sql`SELECT ${sql.ref(`pg_${how}_backend`)}(${first.pid})`.execute(root)
        await until('another such commit, or the response', async () => {
          const next = await findWaiting()
          return isAnswered || (next !== undefined && next.begin !== first.begin)
        })
      }
      t.equal(isAnswered, false)
      t.equal((await get(`/v1/records/${encodeURIComponent(source)}/0`)).status, 200, 'although the record is visible')

      heal()
      t.match(await response, { status: 201, json: { counts: { created: count, duplicate: 0 } } })
    })
  }
}

// The command said "Key … is revoked", although a failover would have made the key valid again.
t.test('creating or revoking a key fails until the standby confirms it', async (t) => {
  const keys = (...args: string[]) => {
    const { stdout, stderr, exit } = runCommand(t, ['keys', ...args], { DATABASE_URL: apiUrl })
    return exit.then((code) => ({ code, stdout: stdout(), stderr: stderr() }))
  }
  // With this setting, PostgreSQL would not send the warning that no standby has confirmed the commit.
  await sql`ALTER ROLE sluice_api SET client_min_messages = 'error'`.execute(root)
  const create = ['create', '--name', 'unconfirmed', '--scope', 'read']
  const id = (await keys(...create)).stdout.split('_')[1] as string
  const heal = await standby.isolate()
  t.teardown(heal)
  for (const args of [create, ['revoke', id]]) {
    const result = keys(...args)
    await until('a commit that waits for the standby', async () => {
      const { rows } = await sql`
        SELECT pg_cancel_backend(pid) FROM pg_stat_activity
        WHERE wait_event = 'SyncRep' AND application_name = 'sluice-command'`.execute(root)
      return rows.length > 0
    })
    t.match(await result, {
      code: 1,
      stdout: '',
      stderr: /^sluice: .* no standby has confirmed it.*\. Run the command again\.\n$/,
    })
  }
  heal()
  await sql`ALTER ROLE sluice_api RESET client_min_messages`.execute(root)
  t.match(await keys('revoke', id), { code: 0, stderr: `Key ${id} is revoked.\n` })
})

// Statements that read the epoch first failed with 55000, "recovery is in progress". The response was 500, although a retry a
// moment later would have succeeded.
t.test('a COPY, an INSERT and a look-up of a position on a standby fail as an outage', async (t) => {
  const db = open({
    url: standby.apiUrl,
    name: 'sluice-write',
    connections: 1,
    statementTimeoutMs: 0,
    prepare: true,
    plan: 'byIdentity',
    onError: () => {},
  })
  t.teardown(() => db.destroy())
  const rows = [makeRow({ source: 'astray' })]
  const base = createRecordStore(db).newBase().first
  for (const work of [
    () => copyRecords(db, rows, base),
    () => insertRecords(db, toColumns(rows), base),
    () => offsetStateOf(db, { epoch: 2 ** 30, xid: '1' }, true),
  ]) {
    const failure = await work().catch((error) => error)
    t.match(classifyFailure(failure), { kind: 'transient', unavailable: true }, failure.message)
  }
})

// This test is the last one, because it promotes the standby.
t.test('the horizon of a running list stays the same when the standby becomes the primary', async (t) => {
  const reader = connect(standby.apiUrl)
  t.teardown(() => reader.destroy())
  const open = await root.startTransaction().execute()
  await sql`
    INSERT INTO sluice.records (epoch, n, source, id, type)
    VALUES (sluice.current_epoch(), 0, 'promoted', '1', 't')`.execute(open)
  await post({ source: 'promoted', type: 't', id: '2' })
  await standby.catchUp()

  const trx = await reader.startTransaction().setIsolationLevel('repeatable read').execute()
  const before = await selectHorizon(trx as never)
  await standby.promote()
  t.same(await selectHorizon(trx as never), before)
  await trx.rollback().execute()
  await open.rollback().execute()
})
