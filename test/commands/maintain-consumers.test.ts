import { sql } from 'kysely'
import t from 'tap'
import { jobs, maintain, start } from '../helpers/maintain.ts'
import { addRecords, ids, many } from '../helpers/retention.ts'

const DAY = 86_400

async function setUp(t: Parameters<typeof start>[0]) {
  const server = await start(t)
  await addRecords(
    server.owner,
    many(10, (index) => ({ id: `${index}`, age: 2 * DAY })),
  )
  await sql`
    INSERT INTO sluice.consumers (name, epoch, xid, n)
    SELECT 'billing', epoch, xid, n FROM sluice.records WHERE id = '3'
    UNION ALL SELECT 'search', epoch, xid, n FROM sluice.records WHERE id = '9'`.execute(server.owner)
  return server
}

t.test('retention says once for which consumer records stay, and how far behind it is', async (t) => {
  const { database, owner } = await setUp(t)
  const policies = '[{ "maxAge": "1d", "keepForConsumers": true }]'
  const msg = 'records stay until this consumer has read them'
  const expected = { level: 'info', msg, consumer: 'billing', behind: { records: 6, isExact: true } }
  for (const args of [['--dry-run'], []]) {
    const { code, logs, stderr } = await maintain(t, database, policies, args)
    t.equal(code, 0, stderr)
    const lines = logs.filter(({ msg }) => `${msg}`.includes('consumer'))
    t.match(lines, [expected])
    t.equal(lines.length, 1)
    const seconds = (lines[0]?.behind as { seconds: number } | undefined)?.seconds ?? 0
    t.ok(seconds >= 2 * DAY && seconds < 2 * DAY + 600, `${seconds} s`)
  }
  t.same(await ids(owner), ['4', '5', '6', '7', '8', '9'])
  t.match(await jobs(database), [{ succeeded: true, figures: {} }])
})

t.test('retention warns of consumers that have not read deleted records', async (t) => {
  const { database, owner } = await setUp(t)
  const run = async (args: string[]) => {
    const { code, logs, stderr } = await maintain(t, database, '[{ "maxAge": "1d" }]', args)
    t.equal(code, 0, stderr)
    return logs.filter(({ msg }) => `${msg}`.includes('consumer'))
  }
  const dry = await run(['--dry-run'])
  t.match(dry, [
    { level: 'warn', consumer: 'billing', msg: 'records that this consumer has not read would be deleted' },
  ])
  const real = await run([])
  t.match(real, [{ level: 'warn', consumer: 'billing', msg: 'records that this consumer has not read were deleted' }])
  t.same([dry.length, real.length], [1, 1])
  t.same(await ids(owner), [])
  t.match(await jobs(database), [{ succeeded: true, figures: {} }])
})

t.test('a consumer that has read everything meanwhile is not blamed', async (t) => {
  const { database, owner } = await setUp(t)
  await sql`DELETE FROM sluice.consumers WHERE name = 'billing'`.execute(owner)
  const { logs } = await maintain(t, database, '[{ "maxAge": "1d", "keepForConsumers": true }]')
  t.same(
    logs.filter(({ msg }) => `${msg}`.includes('consumer')),
    [],
  )
  t.same(await ids(owner), [])
})
