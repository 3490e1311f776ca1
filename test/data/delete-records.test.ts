import t from 'tap'
import { type BatchBounds, deleteBatch } from '../../src/data/delete-records.ts'
import { connect as connectAs } from '../../src/postgres/connect.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { addRecords, ids, many } from '../helpers/retention.ts'

const { ownerUrl, maintenanceUrl } = await createDatabase(t)
const owner = connect(ownerUrl)
const options = { url: maintenanceUrl, name: 'test', connections: 1, statementTimeoutMs: 0, onError: () => {} }
const db = connectAs(options)
t.teardown(() => Promise.all([owner.destroy(), db.destroy()]))

await addRecords(
  owner,
  many(10, (id) => ({ id: String(id), age: 60, size: 1000 })),
)
const start = { epoch: 0, xid: '0', n: '0' }
const remove = (bounds: Partial<BatchBounds>, dryRun = false) => {
  const all = { after: start, until: { epoch: 2 ** 31 - 1, xid: '0', n: '0' }, limit: 100, maxBytes: 1e9, ...bounds }
  const now = new Date().toISOString()
  return deleteBatch(db, [{ selection: {}, before: now, upTo: undefined, keepForConsumers: false }], all, {
    dryRun,
    begun: now,
  })
}

t.test('a batch ends before a record with which it would delete more than maxBytes', async (t) => {
  const each = (await remove({}, true)).bytes / 10
  t.match(await remove({ maxBytes: each * 2 + 1 }), { records: 2, seen: 2, bytes: each * 2 })
  t.equal((await remove({ maxBytes: 1 })).records, 1, 'at least one record, otherwise it would make no progress')
  t.same(await ids(owner), ['3', '4', '5', '6', '7', '8', '9'])
})

t.test('a batch ends before the position `until`', async (t) => {
  const { last } = await remove({ limit: 3 }, true)
  t.equal((await remove({ until: last as typeof start })).records, 2)
  t.same(await ids(owner), ['5', '6', '7', '8', '9'])
})
