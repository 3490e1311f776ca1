import { sql } from 'kysely'
import t from 'tap'
import { selectUnsafeSettings, UNSAFE_SETTINGS } from '../../src/data/unsafe-settings.ts'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { openOwnServer } from '../helpers/own-server.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { scrape } from '../helpers/scrape.ts'
import { until } from '../helpers/until.ts'

/** The tests' server has these off, for speed. */
const OF_TESTS = ['fsync', 'full_page_writes']

t.test('each setting that breaks a promise is one error in the log, and a metric', async (t) => {
  const database = await createDatabase(t)
  const root = connect(database.superUrl)
  t.teardown(() => root.destroy())
  const set = (change: string) =>
    sql`ALTER ROLE sluice_api IN DATABASE ${sql.id(database.name)} ${sql.raw(change)}`.execute(root)
  await set('SET synchronous_commit = off')
  await set('SET track_activities = off')
  await set('SET zero_damaged_pages = on')

  const { app, logs } = await createApp(t, {}, database)
  await app.ready()
  const expected = [...OF_TESTS, 'synchronous_commit', 'track_activities', 'zero_damaged_pages']
  const lines = await until('the settings to be checked', () => {
    const found = logs.filter(({ msg }) => String(msg).startsWith('unsafe setting: '))
    return found.length >= expected.length && found
  })
  t.same(lines.map(({ setting }) => setting).sort(), expected)
  for (const { level, msg } of lines) {
    t.equal(level, 'error')
    t.match(msg, /(Set|RESET) \w+/, 'the line says what to do')
  }
  const metrics = await scrape(app)
  for (const setting of Object.keys(UNSAFE_SETTINGS)) {
    t.equal(metrics.value('sluice_unsafe_settings', { setting }), expected.includes(setting) ? 1 : 0, setting)
  }
})

t.test('settings that a pooler does not pass on are found, and on a default server only the changed one', async (t) => {
  const { superUrl } = await createDatabase(t)
  const db = connect(superUrl)
  t.teardown(() => db.destroy())
  for (const change of ["TimeZone = 'Asia/Kolkata'", "DateStyle = 'German'"]) await sql.raw(`SET ${change}`).execute(db)
  await sql`SET default_transaction_isolation = 'repeatable read'`.execute(db)
  t.same((await selectUnsafeSettings(db as never)).sort(), [
    'DateStyle',
    'TimeZone',
    'default_transaction_isolation',
    ...OF_TESTS,
  ])
  // initdb uses this name for UTC if the machine does.
  await sql`SET TimeZone = 'Etc/UTC'`.execute(db)
  t.notOk((await selectUnsafeSettings(db as never)).includes('TimeZone'))

  const server = await openOwnServer(t, { fsync: 'on', full_page_writes: 'on', data_sync_retry: 'on' })
  const safe = connect(server.superUrl)
  t.teardown(() => safe.destroy())
  await sql`SET TimeZone = 'UTC'`.execute(safe)
  t.same(await selectUnsafeSettings(safe as never), ['data_sync_retry'])
})
