import { sql } from 'kysely'
import t from 'tap'
import { copyRecords } from '../../src/data/copy-records.ts'
import { beginEpoch, MAX_EPOCH, offsetStateOf } from '../../src/data/epochs.ts'
import { insertRecords, toColumns } from '../../src/data/insert-records.ts'
import type { Seen } from '../../src/data/seen.ts'
import { encodeOffset } from '../../src/lib/offset.ts'
import { connect } from '../../src/postgres/connect.ts'
import { createApp } from '../helpers/app.ts'
import { runCommand } from '../helpers/command.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { untilBlocked } from '../helpers/locks.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { makeRow } from '../helpers/rows.ts'

const { ownerUrl, apiUrl, superUrl } = await createDatabase(t)
const root = connectAs(superUrl, 4)
const owner = connectAs(ownerUrl)
const api = connect({ url: apiUrl, name: 'epochs', connections: 3, statementTimeoutMs: 0, onError: () => {} })
t.teardown(() => Promise.all([root.destroy(), owner.destroy(), api.destroy()]))
t.beforeEach(() => sql`TRUNCATE sluice.records, sluice.epochs`.execute(root))

const currentEpoch = async ({ epoch, xid }: Seen = { epoch: 0, xid: '0' }): Promise<number> => {
  const { rows } = await sql<{ epoch: number }>`SELECT sluice.current_epoch(${epoch}, ${xid}) AS epoch`.execute(api)
  return (rows[0] as { epoch: number }).epoch
}
/** A transaction id that the server is far from assigning. */
const FAR = '1152921504606846976'

const writes = {
  insert: (seen: Seen) => insertRecords(api, toColumns([makeRow({ id: `insert ${seen.xid}` })]), 0, seen),
  copy: (seen: Seen) => copyRecords(api, [makeRow({ id: `copy ${seen.xid}` })], 0, seen),
}
for (const [name, write] of Object.entries(writes)) {
  // If a virtual machine is set back together with its memory, the server has neither a new start nor a new timeline.
  t.test(`${name}: a server whose transaction ids went back begins an epoch`, async (t) => {
    const before = await write({ epoch: 0, xid: '0' })
    t.equal(before.epoch, 1)
    const next = await write(before)
    t.equal(next.epoch, 1, 'no new epoch while transaction ids continue')
    const { epoch } = await write({ epoch: 1, xid: FAR })
    t.ok(epoch > 1)
    t.equal((await write({ epoch, xid: next.xid })).epoch, epoch)
  })

  t.test(`${name}: the new epoch is one higher than the epoch that the writer has seen`, async (t) => {
    await write({ epoch: 0, xid: '0' })
    t.equal((await write({ epoch: 900_000_000, xid: '5' })).epoch, 900_000_001)
  })
}

// Once a higher epoch is visible, all rows of the lower ones must be. Otherwise a list upwards would skip the rows that are
// committed later.
t.test('an epoch begins only when the transactions that write in the previous epoch have ended', async (t) => {
  await currentEpoch()
  const writer = await root.startTransaction().execute()
  await sql`INSERT INTO sluice.records (epoch, n, source, id, type) VALUES (sluice.current_epoch(), 0, 's', '1', 't')`.execute(
    writer,
  )
  const begun = beginEpoch(owner as never, undefined)
  let isDone = false
  begun.finally(() => {
    isDone = true
  })
  await untilBlocked(root, 'sluice.epochs')
  t.notOk(isDone)
  await writer.commit().execute()
  t.ok((await begun) > 1)
})

t.test('several writers that have seen a later position than the server agree on one epoch', async (t) => {
  await currentEpoch()
  const nextEpoch = async (): Promise<number> =>
    currentEpoch({ epoch: 500, xid: '1' }).catch((error) => {
      // A deadlock: two of them hold a lock on the table, and both want the exclusive one. The writer retries as well.
      if (error.code !== '40P01') throw error
      return nextEpoch()
    })
  const epochs = await Promise.all([nextEpoch(), nextEpoch(), nextEpoch()])
  t.equal(new Set(epochs).size, 1)
})

t.test('beginEpoch leaps half a year, and beyond the latest epoch and the given one', async (t) => {
  const first = await currentEpoch()
  const leapt = await beginEpoch(owner as never, undefined)
  t.ok(leapt > Date.now() / 1000 - Date.UTC(2025, 0) / 1000 + 180 * 86_400)
  t.ok((await beginEpoch(owner as never, first)) > leapt, 'higher than the latest epoch, not only than `after`')
  t.equal(await beginEpoch(owner as never, leapt + 100_000), leapt + 100_001)
})

// After a leap, each start of the server added only one to the epoch. If a database was set back twice to a point after the
// leap, two epochs had the same number.
t.test('after a leap, a new epoch also adds the seconds that have passed', async (t) => {
  await currentEpoch()
  const leapt = await beginEpoch(owner as never, undefined)
  const start = async (secondsLater: number) => {
    await sql`UPDATE sluice.epochs SET server_started_at = '2026-01-01', started_at = started_at - ${secondsLater} * interval '1 second'
      WHERE epoch = ${leapt}`.execute(root)
    return currentEpoch()
  }
  const first = await start(1000)
  t.ok(first >= leapt + 1000)
  await sql`DELETE FROM sluice.epochs WHERE epoch = ${first}`.execute(root)
  t.ok((await start(500)) >= leapt + 1500)
})

t.test('positions that were lost are recognised if records were stored that sort before them', async (t) => {
  // One instance has seen epoch 900,000,000. Before it writes, another one has stored a record in epoch 1.
  const stored = await writes.insert({ epoch: 0, xid: '0' })
  t.equal(await currentEpoch({ epoch: 900_000_000, xid: '7' }), 900_000_001)
  for (const primary of [true, false]) {
    const standings = await Promise.all(
      [
        stored,
        { epoch: 1, xid: FAR },
        { epoch: 2, xid: '1' },
        { epoch: 900_000_000, xid: '7' },
        { epoch: 900_000_001, xid: '1' },
      ].map((position) => offsetStateOf(api, position, primary)),
    )
    t.same(standings, [undefined, 'lost', 'lost', 'lost', undefined])
  }
  // No record was stored in the previous epoch.
  t.equal(await currentEpoch({ epoch: 900_000_700, xid: '7' }), 900_000_701)
  t.equal(await offsetStateOf(api, { epoch: 900_000_600, xid: '1' }, true), undefined)
})

// A cursor has a checksum but no secret, so every reader can make one up.
t.test('a made-up cursor cannot use up the epochs', async (t) => {
  for (const epoch of [MAX_EPOCH, 2 ** 31 - 1]) {
    const cursor = encodeOffset({ epoch, xid: '1', n: 1 })
    const command = runCommand(t, ['epoch', 'begin', '--after', cursor], { DATABASE_URL: ownerUrl })
    t.equal(await command.exit, 1)
    t.match(command.stderr(), /not a cursor from this service/)
  }
  for (const times of [1, 2, 3]) t.equal(await currentEpoch({ epoch: 2 ** 31 - 1, xid: FAR }), MAX_EPOCH + times - 1)
  t.equal(await beginEpoch(owner as never, undefined), MAX_EPOCH + 3, 'without a cursor, the next epoch is one higher')
})

t.test('the reader, maintenance and backup roles may not begin an epoch', async (t) => {
  for (const role of ['sluice_reader', 'sluice_maintenance', 'sluice_backup']) {
    const trx = await root.startTransaction().execute()
    await sql`SET LOCAL ROLE ${sql.id(role)}`.execute(trx)
    await t.rejects(sql`SELECT sluice.current_epoch(900000000)`.execute(trx), { code: '42501' }, role)
    await trx.rollback().execute()
  }
})

t.test('a position that was assigned is not ahead; one that was not is ahead', async (t) => {
  const assigned = await writes.insert({ epoch: 0, xid: '0' })
  for (const primary of [true, false]) {
    t.equal(await offsetStateOf(api, assigned, primary), undefined)
    t.equal(await offsetStateOf(api, { epoch: 1, xid: FAR }, primary), 'ahead')
    t.equal(await offsetStateOf(api, { epoch: 2, xid: '1' }, primary), 'ahead')
  }
  await sql`UPDATE sluice.epochs SET server_started_at = '2026-01-01'`.execute(root)
  t.equal(
    await offsetStateOf(api, { epoch: 1, xid: FAR }, true),
    undefined,
    'after a restart, a position of the previous epoch is not ahead',
  )
})

t.test('a list upwards is refused if its cursor is ahead; a list downwards is not', async (t) => {
  const { post, get } = await createApp(t)
  await post({ source: 'shop', type: 't', id: '1' })
  const { cursor } = (await get('/v1/records')).json.records[0]
  t.match(await get(`/v1/records?order=asc&cursor=${cursor}`), { status: 200, json: { records: [], next: null } })
  const ahead = encodeOffset({ epoch: 2 ** 31 - 1, xid: '1', n: 1 })
  t.match(await get(`/v1/records?order=asc&cursor=${ahead}`), { status: 409, json: { code: 'offset_ahead' } })
  t.equal((await get(`/v1/records?cursor=${ahead}`)).json.records.length, 1, 'downwards, it is a cursor like any other')
})
