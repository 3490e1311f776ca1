import { sql } from 'kysely'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { addRecords, many } from '../helpers/retention.ts'
import { scrape } from '../helpers/scrape.ts'
import { until } from '../helpers/until.ts'

const server = await createApp(t)
const { app, database } = server
await app.ready()
const owner = connect(database.ownerUrl)
t.teardown(() => owner.destroy())

const NAMES = ['lag_records', 'lag_seconds', 'overtaken_timestamp_seconds'].map((name) => `sluice_consumer_${name}`)

/** The values of the three metrics of a consumer. */
async function valuesOf(consumer: string) {
  const now = await scrape(app)
  return NAMES.map((name) => now.value(name, { consumer }))
}

const now = performance.now
let ahead = 0
performance.now = () => now.call(performance) + ahead
t.teardown(() => {
  performance.now = now
})

/** Lets the clock jump, so that the values get older. */
const skip = (milliseconds: number) => {
  ahead += milliseconds
}

t.test('the metrics have the lag of each consumer, and are read again after fifteen seconds', async (t) => {
  t.same(await valuesOf('behind'), [undefined, undefined, undefined], 'without consumers, there are no values')
  await addRecords(
    owner,
    many(3, () => ({ age: 100 })),
  )
  await sql`
    INSERT INTO sluice.consumers (name, epoch, xid, n, overtaken_at) VALUES
      ('behind', 0, '0', 0, NULL), ('overtaken', 0, '0', 0, '2026-01-31 12:00:00.5+00')`.execute(owner)
  t.same(await valuesOf('behind'), [undefined, undefined, undefined], 'the last reading is still used')
  skip(15_000)
  // The feed waits for open transactions of other test files.
  await until('the records to be in the feed', async () => {
    if ((await valuesOf('behind'))[0] === 3) return true
    skip(15_000)
    return false
  })
  const [, seconds, overtaken] = await valuesOf('behind')
  t.ok((seconds as number) >= 100 && (seconds as number) < 160, `${seconds} s`)
  t.equal(overtaken, undefined)
  t.equal((await valuesOf('overtaken'))[2], Date.UTC(2026, 0, 31, 12, 0, 0, 500) / 1000)

  await sql`DELETE FROM sluice.consumers WHERE name = 'behind'`.execute(owner)
  skip(15_000)
  t.same(await valuesOf('behind'), [undefined, undefined, undefined], 'its series end with it')
  t.equal((await valuesOf('overtaken'))[0], 3)
})

t.test('while the consumers cannot be read, their values end after a minute', async (t) => {
  t.equal((await valuesOf('overtaken'))[0], 3)
  await sql`ALTER TABLE sluice.consumers RENAME TO away`.execute(owner)
  skip(15_000)
  t.equal((await valuesOf('overtaken'))[0], 3)
  skip(60_000)
  t.equal((await valuesOf('overtaken'))[0], undefined)
  await sql`ALTER TABLE sluice.away RENAME TO consumers`.execute(owner)
  t.equal((await valuesOf('overtaken'))[0], 3)
})
