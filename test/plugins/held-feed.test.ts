import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { createApp, type TestApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { scrape } from '../helpers/scrape.ts'
import { until } from '../helpers/until.ts'

const REPORT_SECONDS = 5
const BEGIN = 'a transaction holds the feed back'
const END = 'the transaction that held the feed back has ended'

const heldSeconds = async ({ app }: TestApp) => (await scrape(app)).value('sluice_feed_held_seconds')
const linesOf = ({ logs }: TestApp, text: string) => logs.filter(({ msg }) => msg === text)

/** Waits for the first line about a session. */
const untilLogged = (server: TestApp, text: string, pid: number) =>
  until(`the line "${text}"`, () => linesOf(server, text).find((line) => line.pid === pid))

/** Begins a transaction that has a transaction id, and then does nothing. */
async function begin(t: Test, url: string) {
  const db = connect(url)
  t.teardown(() => db.destroy())
  const trx = await db.startTransaction().execute()
  const { rows } = await sql<{ pid: number }>`
    SELECT pg_backend_pid() AS pid, pg_current_xact_id()`.execute(trx)
  return { trx, pid: rows[0]?.pid as number }
}

t.test('a transaction that stays open is reported when it holds the feed, once, and when it has ended', async (t) => {
  const server = await createApp(t)
  const { app, post, get, database } = server
  await app.ready()
  await until('the first check', async () => (await heldSeconds(server)) === 0)

  const { trx, pid } = await begin(t, `${database.apiUrl}?application_name=shop`)
  // The API may not see its age, so it counts from when it holds the feed.
  const next = await begin(t, `${database.superUrl}?application_name=psql`)
  t.equal((await post({ source: 's', type: 't', id: '1' })).status, 201)
  const listed = async () => (await get('/v1/records?order=asc')).json.records.length
  /** Waits until the metric is greater, which needs another check. */
  const untilGreater = (seconds: number) =>
    until(`a transaction to be older than ${seconds} s`, async () => {
      const value = await heldSeconds(server)
      return value !== undefined && value > seconds && value
    })

  const line = await untilLogged(server, BEGIN, pid)

  const { name } = database
  const expected = { level: 'warn', pid, gid: null, database: name, user: 'sluice_api', application: 'shop' }
  t.match(line, { ...expected, state: 'idle in transaction' })
  t.ok((line.seconds as number) >= REPORT_SECONDS, `${line.seconds} s`)
  t.equal(await listed(), 0)
  const before = await untilGreater(REPORT_SECONDS)
  await untilGreater(before)
  t.same(
    linesOf(server, BEGIN).map((one) => one.pid),
    [pid],
    'one line, although it was checked again',
  )

  await trx.rollback().execute()
  t.match(await untilLogged(server, END, pid), { level: 'info', pid, seconds: Number })
  t.ok(((await heldSeconds(server)) as number) < REPORT_SECONDS, 'the next one is counted from now')
  const other = await untilLogged(server, BEGIN, next.pid)
  t.match(other, { level: 'warn', user: 'postgres', application: 'psql', state: 'unknown', seconds: Number })
  await next.trx.commit().execute()
  await untilLogged(server, END, next.pid)
  t.equal(await heldSeconds(server), 0)
  t.equal(await listed(), 1)
  t.equal(linesOf(server, BEGIN).length, 2)
  t.equal(linesOf(server, END).length, 2)
})

t.test('while the database is unavailable, the metric has no value', async (t) => {
  const server = await createApp(t)
  const { app, database } = server
  await app.ready()
  await until('the first check', async () => (await heldSeconds(server)) === 0)
  const elsewhere = connect(new URL('/postgres', database.superUrl).href)
  t.teardown(() => elsewhere.destroy())
  const allow = (value: 'true' | 'false') =>
    sql`ALTER DATABASE ${sql.id(database.name)} ALLOW_CONNECTIONS ${sql.raw(value)}`.execute(elsewhere)
  await allow('false')
  await sql`
    SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = ${database.name}`.execute(elsewhere)
  await until('a check to fail', async () => (await heldSeconds(server)) === undefined)
  await allow('true')
  await until('a check to succeed', async () => (await heldSeconds(server)) === 0)
})
