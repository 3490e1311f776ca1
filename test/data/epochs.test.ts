import { sql } from 'kysely'
import t from 'tap'
import { connect } from '../../src/data/connect.ts'
import { copyRecords } from '../../src/data/copy-records.ts'
import { beginEpoch, HIGHEST_EPOCH, standingOf } from '../../src/data/epochs.ts'
import { insertRecords, toColumns } from '../../src/data/insert-records.ts'
import type { Seen } from '../../src/data/seen.ts'
import { encodeCursor } from '../../src/lib/cursor.ts'
import { createApp } from '../helpers/app.ts'
import { runCommand } from '../helpers/command.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { waitsFor } from '../helpers/locks.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { makeRow } from '../helpers/rows.ts'

const { ownerUrl, apiUrl, superUrl } = await createDatabase(t)
const root = connectAs(superUrl, 4)
const owner = connectAs(ownerUrl)
const api = connect({ url: apiUrl, name: 'epochs', connections: 3, statementTimeoutMs: 0, onError: () => {} })
t.teardown(() => Promise.all([root.destroy(), owner.destroy(), api.destroy()]))
t.beforeEach(() => sql`TRUNCATE sluice.records, sluice.epochs`.execute(root))

const current = async ({ epoch, xid }: Seen = { epoch: 0, xid: '0' }): Promise<number> => {
  const { rows } = await sql<{ epoch: number }>`SELECT sluice.current_epoch(${epoch}, ${xid}) AS epoch`.execute(api)
  return (rows[0] as { epoch: number }).epoch
}
const FAR = '1152921504606846976'

const writes = {
  insert: (seen: Seen) => insertRecords(api, toColumns([makeRow({ id: `insert ${seen.xid}` })]), 0, seen),
  copy: (seen: Seen) => copyRecords(api, [makeRow({ id: `copy ${seen.xid}` })], 0, seen),
}
for (const [name, write] of Object.entries(writes)) {
  // A virtual machine that is set back with its memory notices nothing of it: neither a start nor a new timeline.
  t.test(`${name}: a server whose transaction ids went back begins an epoch`, async (t) => {
    const before = await write({ epoch: 0, xid: '0' })
    t.equal(before.epoch, 1)
    const next = await write(before)
    t.equal(next.epoch, 1, 'but not one whose transaction ids went on')
    const { epoch } = await write({ epoch: 1, xid: FAR })
    t.ok(epoch > 1)
    t.equal((await write({ epoch, xid: next.xid })).epoch, epoch)
  })

  t.test(`${name}: rows come after the epoch that was seen`, async (t) => {
    await write({ epoch: 0, xid: '0' })
    t.equal((await write({ epoch: 900_000_000, xid: '5' })).epoch, 900_000_001)
  })
}

// All rows of an epoch are there once a greater one can be seen: else a list upwards would pass those on their way.
t.test('an epoch begins when nobody writes in the one before', async (t) => {
  await current()
  const writer = await root.startTransaction().execute()
  await sql`INSERT INTO sluice.records (epoch, n, source, id, type) VALUES (sluice.current_epoch(), 0, 's', '1', 't')`.execute(
    writer,
  )
  const begun = beginEpoch(owner as never, undefined)
  let over = false
  begun.finally(() => {
    over = true
  })
  await waitsFor(root, 'sluice.epochs')
  t.notOk(over)
  await writer.commit().execute()
  t.ok((await begun) > 1)
})

t.test('several writers that were further than the server agree on an epoch', async (t) => {
  await current()
  const again = async (): Promise<number> =>
    current({ epoch: 500, xid: '1' }).catch((error) => {
      // Two of them held the table already and wanted it alone: the writer tries again.
      if (error.code !== '40P01') throw error
      return again()
    })
  const epochs = await Promise.all([again(), again(), again()])
  t.equal(new Set(epochs).size, 1)
})

t.test('"sluice epoch begin" goes forwards, also when no clock helps', async (t) => {
  const first = await current()
  const leapt = await beginEpoch(owner as never, undefined)
  t.ok(leapt > Date.now() / 1000 - Date.UTC(2025, 0) / 1000 + 180 * 86_400)
  t.ok((await beginEpoch(owner as never, first)) > leapt, 'also after an epoch that is no longer the latest')
  t.equal(await beginEpoch(owner as never, leapt + 100_000), leapt + 100_001)
})

// A start added one: a database that was set back to this point twice gave the same number to two epochs.
t.test('after a leap, epochs go on at the pace of the clock', async (t) => {
  await current()
  const leapt = await beginEpoch(owner as never, undefined)
  const start = async (secondsLater: number) => {
    await sql`UPDATE sluice.epochs SET server_started_at = '2026-01-01', started_at = started_at - ${secondsLater} * interval '1 second'
      WHERE epoch = ${leapt}`.execute(root)
    return current()
  }
  const first = await start(1000)
  t.ok(first >= leapt + 1000)
  await sql`DELETE FROM sluice.epochs WHERE epoch = ${first}`.execute(root)
  t.ok((await start(500)) >= leapt + 1500)
})

t.test('positions of a life that is lost are known where records were stored before them', async (t) => {
  // The API knew of epoch 900,000,000, and somebody else had stored a record in epoch 1 already.
  const stored = await writes.insert({ epoch: 0, xid: '0' })
  t.equal(await current({ epoch: 900_000_000, xid: '7' }), 900_000_001)
  for (const primary of [true, false]) {
    const standings = await Promise.all(
      [
        stored,
        { epoch: 1, xid: FAR },
        { epoch: 2, xid: '1' },
        { epoch: 900_000_000, xid: '7' },
        { epoch: 900_000_001, xid: '1' },
      ].map((position) => standingOf(api, position, primary)),
    )
    t.same(standings, [undefined, 'lost', 'lost', 'lost', undefined])
  }
  // Here nobody had.
  t.equal(await current({ epoch: 900_000_700, xid: '7' }), 900_000_701)
  t.equal(await standingOf(api, { epoch: 900_000_600, xid: '1' }, true), undefined)
})

// A cursor carries a checksum, and no secret: whoever may read can make one up.
t.test('no cursor that somebody made up uses up the epochs', async (t) => {
  for (const epoch of [HIGHEST_EPOCH, 2 ** 31 - 1]) {
    const cursor = encodeCursor({ epoch, xid: '1', n: 1 })
    const command = runCommand(t, ['epoch', 'begin', '--after', cursor], { DATABASE_URL: ownerUrl })
    t.equal(await command.exit, 1)
    t.match(command.stderr(), /not a cursor from this service/)
  }
  for (const times of [1, 2, 3]) t.equal(await current({ epoch: 2 ** 31 - 1, xid: FAR }), HIGHEST_EPOCH + times - 1)
  t.equal(await beginEpoch(owner as never, undefined), HIGHEST_EPOCH + 3, 'and there is room for as many starts again')
})

t.test('only the API and the owner may begin an epoch', async (t) => {
  for (const role of ['sluice_reader', 'sluice_maintenance', 'sluice_backup']) {
    const trx = await root.startTransaction().execute()
    await sql`SET LOCAL ROLE ${sql.id(role)}`.execute(trx)
    await t.rejects(sql`SELECT sluice.current_epoch(900000000)`.execute(trx), { code: '42501' }, role)
    await trx.rollback().execute()
  }
})

t.test('a cursor that was given out is not ahead; one that was not is', async (t) => {
  const given = await writes.insert({ epoch: 0, xid: '0' })
  for (const primary of [true, false]) {
    t.equal(await standingOf(api, given, primary), undefined)
    t.equal(await standingOf(api, { epoch: 1, xid: FAR }, primary), 'ahead')
    t.equal(await standingOf(api, { epoch: 2, xid: '1' }, primary), 'ahead')
  }
  await sql`UPDATE sluice.epochs SET server_started_at = '2026-01-01'`.execute(root)
  t.equal(
    await standingOf(api, { epoch: 1, xid: FAR }, true),
    undefined,
    'of a start that is over, once there is a new one',
  )
})

t.test('a list upwards after a cursor that the database never gave out is refused, and no other list is', async (t) => {
  const { post, get } = await createApp(t)
  await post({ source: 'shop', type: 't', id: '1' })
  const { cursor } = (await get('/v1/records')).json.records[0]
  t.match(await get(`/v1/records?order=asc&cursor=${cursor}`), { status: 200, json: { records: [], next: null } })
  const ahead = encodeCursor({ epoch: 2 ** 31 - 1, xid: '1', n: 1 })
  t.match(await get(`/v1/records?order=asc&cursor=${ahead}`), { status: 409, json: { code: 'cursor_ahead' } })
  t.equal((await get(`/v1/records?cursor=${ahead}`)).json.records.length, 1, 'downwards it is a place like any other')
})
