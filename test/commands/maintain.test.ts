import { execFile } from 'node:child_process'
import { sql } from 'kysely'
import t from 'tap'
import { runCommand } from '../helpers/command.ts'
import { jobs, maintain, start, write } from '../helpers/maintain.ts'
import { addRecords, ids, many } from '../helpers/retention.ts'
import { missing } from '../helpers/skipping.ts'

const DAY = 86_400
const CLICKS = '[{ "type": "click", "maxAge": "30d" }]'

t.test('deletes what the policies match, logs the counts, and keeps the totals for /metrics', async (t) => {
  const { database, owner } = await start(t)
  await addRecords(owner, [...many(3, () => ({ type: 'click', age: 40 * DAY })), { id: 'kept', type: 'click' }])
  const { code, logs, stderr } = await maintain(t, database, CLICKS)
  t.equal(code, 0, stderr)
  t.equal(stderr, '')
  t.same(await ids(owner), ['kept'])
  t.match(logs, [
    {
      level: 'info',
      msg: 'deleted',
      policy: 0,
      type: 'click',
      maxAge: '30d',
      records: 3,
      oldest: /Z$/,
      newest: /Z$/,
    },
    { level: 'info', msg: 'deleted in total', records: 3, bytes: Number },
    { level: 'info', msg: 'the space of deleted records is available for new ones' },
  ])
  const [job] = await jobs(database)
  t.match(job, { job: 'retention', succeeded: true, totals: { removed_records: 3, removed_bytes: logs[1]?.bytes } })

  await addRecords(owner, [{ type: 'click', age: 40 * DAY }])
  await maintain(t, database, CLICKS)
  t.match(await jobs(database), [{ totals: { removed_records: 4 } }], 'the totals of both runs are added')
})

t.test('--dry-run logs what would be deleted, and changes nothing', async (t) => {
  const { database, owner } = await start(t)
  await addRecords(
    owner,
    many(3, () => ({ type: 'click', age: 40 * DAY })),
  )
  const { code, logs } = await maintain(t, database, CLICKS, ['--dry-run'])
  t.equal(code, 0)
  t.match(logs, [
    { msg: 'would be deleted', policy: 0, type: 'click', records: 3 },
    { msg: 'dry run: nothing was deleted', records: 3 },
  ])
  t.equal((await ids(owner)).length, 3)
  t.same(await jobs(database), [])
})

t.test('on a terminal, --dry-run prints a table', { skip: missing('script') }, async (t) => {
  const { database, owner } = await start(t)
  await addRecords(
    owner,
    many(3, () => ({ type: 'click', age: 40 * DAY })),
  )
  const policies = await write(t, CLICKS)
  const line = `${process.execPath} src/main.ts maintain --dry-run --policies ${policies}`
  const env = { PATH: process.env.PATH, DATABASE_URL: database.maintenanceUrl, NO_COLOR: '1' }
  const shown = await new Promise((resolve) => {
    execFile('script', ['--quiet', '--return', '--command', line, '/dev/null'], { env }, (_, out) => resolve(out))
  })
  t.match(shown, /│ \(index\) +│ records │ bytes │ oldest +│ newest +│/)
  t.match(shown, /│ 0 {"type":"click","maxAge":"30d"} │ 3 +│ \d+ +│ '[\d-]+T[\d:.]+Z' │/)
  t.match(shown, /│ total +│ 3 /)
})

t.test('without policies nothing is deleted, and the log says so', async (t) => {
  const { database, owner } = await start(t)
  await addRecords(owner, [{ age: 1000 * DAY }])
  for (const text of ['[]', '']) {
    const { code, logs } = await maintain(t, database, text)
    t.equal(code, 0)
    t.match(logs[0], { level: 'info', msg: 'there are no policies: nothing is deleted' })
  }
  t.equal((await ids(owner)).length, 1)
  t.match(await jobs(database), [{ succeeded: true, totals: { removed_records: 0 } }])
})

t.test('the policies come from the file in RETENTION_POLICIES, or from the one in --policies', async (t) => {
  const { database, owner } = await start(t)
  await addRecords(
    owner,
    [
      { id: 'order', type: 'order' },
      { id: 'click', type: 'click' },
    ].map((r) => ({ ...r, age: 40 * DAY })),
  )
  const file = await write(t, '[{ "type": "order", "maxAge": "30d" }]')
  const env = { DATABASE_URL: database.maintenanceUrl, RETENTION_POLICIES: file }
  t.equal(await runCommand(t, ['maintain'], env).exit, 0)
  t.same(await ids(owner), ['click'])
  t.equal(await runCommand(t, ['maintain', '--policies', await write(t, CLICKS)], env).exit, 0)
  t.same(await ids(owner), [])
})

t.test('a run that cannot start fails with one sentence on stderr, and deletes nothing', async (t) => {
  const { database, owner } = await start(t)
  await addRecords(owner, [{ type: 'click', age: 40 * DAY }])
  const file = await write(t, CLICKS)
  const wrong = await write(t, '[{ "maxAge": "1y" }]')
  const { maintenanceUrl, apiUrl } = database
  const unreachable = 'postgres://sluice_maintenance:secret@127.0.0.1:1/sluice'
  for (const [args, url, sentence] of [
    [
      [],
      maintenanceUrl,
      /^sluice: No policy file: specify one with --policies or RETENTION_POLICIES\. An example of its content is \[\{.*\}\]\.\n$/,
    ],
    [
      ['--policies', '/none.json'],
      maintenanceUrl,
      /^sluice: ENOENT: no such file or directory, open '\/none\.json'\. There is no such file or folder: correct the path.*\.\n$/,
    ],
    [['--policies', wrong], maintenanceUrl, /^sluice: .*: \/0\/maxAge is "1y", but must be .*\.\n$/],
    [['--policies', file], apiUrl, /^sluice: The role sluice_api may not delete records: .*sluice_maintenance.*\.\n$/],
    [['--policies', file], unreachable, /^sluice: no connection to PostgreSQL: .*ECONNREFUSED.*\.\n$/],
  ] as const) {
    const { exit, stderr, stdout } = runCommand(t, ['maintain', ...args], { DATABASE_URL: url })
    t.equal(await exit, 1, `${sentence}`)
    t.match(stderr(), sentence)
    t.notMatch(stdout() + stderr(), /secret|\n\s+at /, 'no password, no stack trace')
  }
  t.equal((await ids(owner)).length, 1)
})

t.test('a role that may not count records deletes none, unless the statistics are off', async (t) => {
  const { database, owner } = await start(t)
  await addRecords(owner, [{ type: 'click', age: 40 * DAY }])
  await sql`REVOKE ALL ON sluice.rollups FROM sluice_maintenance`.execute(owner)
  const { code, stderr } = await maintain(t, database, CLICKS)
  t.match({ code, stderr }, { code: 1, stderr: /may not update the rollups.*"sluice migrate".*ROLLUP_MAX_SERIES=0/ })
  t.equal((await ids(owner)).length, 1)
  const env = { DATABASE_URL: database.maintenanceUrl, ROLLUP_MAX_SERIES: '0' }
  t.equal(await runCommand(t, ['maintain', '--policies', await write(t, CLICKS)], env).exit, 0)
  t.equal((await ids(owner)).length, 0)
  await sql`DROP TABLE sluice.rollups`.execute(owner)
  t.match(await maintain(t, database, CLICKS), { code: 1, stderr: /may not update the rollups.*"sluice migrate"/ })
})

t.test('a role without the privilege to VACUUM gets a warning', async (t) => {
  const { database, owner } = await start(t)
  await sql`REVOKE MAINTAIN ON sluice.records FROM sluice_maintenance`.execute(owner)
  await addRecords(owner, [{ type: 'click', age: 40 * DAY }])
  const { code, logs } = await maintain(t, database, CLICKS)
  t.equal(code, 0)
  t.ok(logs.some(({ level, msg }) => level === 'warn' && /may not VACUUM/.test(`${msg}`)))
})
