import { sql } from 'kysely'
import t from 'tap'
import { addStorageSample, selectStorageHistory } from '../../src/data/storage-history.ts'
import type { Database } from '../../src/postgres/tables.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

const { apiUrl } = await createDatabase(t)
const db = connect(apiUrl) as Database
t.teardown(() => db.destroy())

const insert = (ages: string[]) =>
  sql`
    INSERT INTO sluice.storage_history (hour, used_bytes)
    SELECT date_trunc('hour', now()) - age::interval, 1 FROM unnest(${ages}::text[]) AS age`.execute(db)

t.test('one sample per hour is kept for a month, and those of the last days are read, oldest first', async (t) => {
  await insert(['31 days', '29 days', '3 hours', '6 days', '8 days'])
  await addStorageSample(db, 2 ** 40)
  await addStorageSample(db, 5)
  const ages = async (days: number) =>
    (await selectStorageHistory(db, days)).map(({ at, usedBytes }) => [
      Math.floor((Date.now() - at) / 3_600_000),
      usedBytes,
    ])
  t.same(await ages(7), [
    [6 * 24, 1],
    [3, 1],
    [0, 2 ** 40],
  ])
  t.equal((await ages(365)).length, 5)
})
