import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { connect as connectAs } from '../../src/postgres/connect.ts'
import { DeletedTotals, retain } from '../../src/retention/apply-policies.ts'
import { parsePolicies } from '../../src/retention/policies.ts'
import { createApp, type TestApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { addRecords, ids, many } from '../helpers/retention.ts'

const DAY = 86_400

t.test('while retention deletes everything, no request is refused, and no later record is lost', async (t) => {
  const server = await createApp(t)
  const owner = connect(server.database.ownerUrl)
  t.teardown(() => owner.destroy())
  await addRecords(
    owner,
    many(8000, (index) => ({ source: 'old', id: `${index}`, age: 2 * DAY })),
  )

  let [isDeleting, isOver] = [false, false]
  const onBatch = () => {
    isDeleting = true
  }
  const retention = run(t, server, '[{ "maxCount": 1 }, { "maxAge": "1s" }]', onBatch).finally(() => {
    isOver = true
  })
  const acknowledged: string[] = []
  /** Those of them that were sent after the first batch was deleted. */
  const late: string[] = []
  const statuses = new Set<number>()
  const clients = Array.from({ length: 8 }, async (_, client) => {
    for (let n = 0; !isOver || late.length === 0; n++) {
      const id = `${client} ${n}`
      const isLate = isDeleting
      const { status } = await server.post({ source: 'new', id, type: 'x', data: { n } })
      statuses.add(status)
      acknowledged.push(id)
      if (isLate) late.push(id)
    }
  })
  const removed = await retention
  await Promise.all(clients)
  t.same([...statuses], [201])
  const left = await ids(owner)
  t.ok(removed.records >= 8000, `${removed.records} were deleted`)
  // The policies also cover the new records that were committed before retention looked up the end of the feed.
  t.equal(left.length, 8000 + acknowledged.length - removed.records)
  t.ok(
    late.every((id) => left.includes(id)),
    'no record that was sent later is deleted',
  )
  t.ok(
    acknowledged.slice(removed.records - 8000 + 64).every((id) => left.includes(id)),
    'the new records are stored',
  )
})

t.test('records that are sent again while they are deleted are stored in the end', async (t) => {
  const server = await createApp(t)
  const owner = connect(server.database.ownerUrl)
  t.teardown(() => owner.destroy())
  const batch = (from: number, count: number) =>
    many(count, (index) => ({ source: 'shop', id: `${from + index}`, type: 'x' }))
  t.equal((await server.post(batch(0, 6000))).status, 201)
  await sql`UPDATE sluice.records SET received_at = received_at - interval '2 days'`.execute(owner)

  const retention = run(t, server, '[{ "maxAge": "1d" }]')
  const counts = { created: 0, duplicate: 0 }
  const statuses = new Set<number>()
  // From the end and from the beginning: before retention reaches them, and after.
  for (let at = 0; at < 3000; at += 100) {
    for (const from of [at, 5900 - at]) {
      const { status, json } = await server.post(batch(from, 100))
      statuses.add(status)
      counts.created += json.counts.created
      counts.duplicate += json.counts.duplicate
    }
  }
  t.notOk([...statuses].some((status) => status !== 200 && status !== 201))
  const { records } = await retention
  t.equal(records, 6000, 'each old record was deleted once')
  t.equal(counts.created + counts.duplicate, 6000)
  t.equal((await ids(owner)).length, counts.created, 'the records that were reported as created are stored')
})

t.test('the identity of a deleted record is free again, and a reader continues from its cursor', async (t) => {
  const server = await createApp(t)
  const record = { source: 'shop', id: '1', type: 'x', data: { n: 1 } }
  await server.post(record)
  await server.post({ ...record, id: '2' })
  const page = await server.get('/v1/records?order=asc&limit=1')
  await run(t, server, '[{ "type": "x", "maxCount": 1 }]')

  t.equal((await server.get('/v1/records/shop/1')).status, 404)
  const next = await server.get(`/v1/records?order=asc&cursor=${page.json.next}`)
  t.match(next, { status: 200, json: { records: [{ id: '2' }] } }, 'the record of the cursor is deleted')
  // With other content. There is no conflict, because the record is deleted.
  t.match(await server.post({ ...record, data: { n: 2 } }), { status: 201, json: { counts: { created: 1 } } })
  t.match(await server.get('/v1/records/shop/1'), { status: 200, json: { data: { n: 2 } } })
})

/** Runs retention to its end, with the role for maintenance. */
async function run(t: Test, { database }: TestApp, policies: string, onRemoved = () => {}): Promise<DeletedTotals> {
  let isOver = false
  const db = connectAs({
    url: database.maintenanceUrl,
    name: 'sluice-maintain',
    connections: 1,
    statementTimeoutMs: 0,
    // A pool that was closed does not wait for its connections to close, so the database may be dropped before.
    onError: (error) => isOver || t.error(error),
  })
  const parsed = parsePolicies(policies, 'policies.json')
  const removed = new DeletedTotals(parsed)
  const onBatch = (batch: Parameters<DeletedTotals['add']>[0]) => {
    removed.add(batch)
    onRemoved()
  }
  await retain(db, parsed, { dryRun: false, stop: new AbortController().signal, maxSeries: 1000, onBatch }).finally(
    () => {
      isOver = true
      return db.destroy()
    },
  )
  return removed
}
