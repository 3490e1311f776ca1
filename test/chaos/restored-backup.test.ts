import { readFile } from 'node:fs/promises'
import { sql } from 'kysely'
import t from 'tap'
import { dumpSchema } from '../../scripts/dump-schema.ts'
import { decodeOffset } from '../../src/lib/offset.ts'
import { migrate } from '../../src/postgres/migrate.ts'
import { createApp, type TestApp } from '../helpers/app.ts'
import { makeFolder, newCluster, runScript, withoutBackup } from '../helpers/backup.ts'
import { connect } from '../helpers/connect.ts'
import { until } from '../helpers/until.ts'

const skip = withoutBackup

// A backup is made, more records arrive, and the server and its data are lost. The transaction ids of the new server start over,
// and consumers hold cursors from before.
t.test('after the loss of the server, ingestion continues on a restored backup', { skip }, async (t) => {
  const BACKUPS = await makeFolder(t)
  const old = await newCluster(t)
  await migrateAs(old.ownerUrl)
  await spendTransactionIds(old.ownerUrl)
  const before = await createApp(t, {}, old)
  const order = (n: number) => ({
    source: 'shop',
    type: 'order.placed',
    id: String(n),
    time: '2026-11-26T07:30:00.123456Z',
    data: { total: n, text: "it's \\ \t\u2028" },
  })
  for (let n = 1; n <= 20; n++) await before.post(order(n))
  await before.post([{ source: 'bytes', type: 't', id: '1', data_base64: 'AAEC/w==' }])
  await before.post(
    '{"source":"digits","type":"t","id":"1","data":{"a":12345678901234567890,"b":0.1000000000000000055,"a":-0}}',
  )
  const everything = await readAll(before)
  t.equal(everything.length, 22)
  const halfway = everything[9]?.cursor as string

  const consumer = await put(before, before.key, halfway, { 'if-none-match': '*' })
  t.equal(consumer.statusCode, 201)

  t.match(await runScript('backup', { ...old.backup, BACKUPS }), { code: 0 })
  await before.post(order(21))
  const lost = await put(before, before.key, everything.at(-1)?.cursor, { 'if-match': `${consumer.headers.etag}` })
  t.equal(lost.statusCode, 200)
  await before.app.close()
  await old.lose()

  const fresh = await newCluster(t)
  // As in a deployment: the migration creates an empty schema before the restore.
  await migrateAs(fresh.ownerUrl)
  const restored = await runScript('restore', { ...fresh.owner, BACKUPS }, { args: ['latest'] })
  t.match(restored, { code: 0, logs: [{ level: 'info', records: 22 }] })
  await migrateAs(fresh.ownerUrl)
  const after = await createApp(t, {}, fresh)
  const authorization = `Bearer ${before.key}`

  t.test('the feed has the same records in the same order, with the same cursors', async (t) => {
    t.same(await readAll(after), everything)
  })

  t.test('the schema and the privileges are those of db/schema.sql', async (t) => {
    const db = connect(fresh.ownerUrl)
    t.teardown(() => db.destroy())
    t.equal(await dumpSchema(db), await readFile(new URL('../../db/schema.sql', import.meta.url), 'utf8'))
  })

  t.test('keys from before the loss are valid', async (t) => {
    t.equal((await after.get('/v1/records?limit=1', { authorization })).status, 200)
  })

  t.test(
    'a consumer continues from its offset in the backup, and an ETag from after the backup is not valid',
    async (t) => {
      const { json, headers } = await after.get('/v1/consumers/billing', { authorization })
      t.equal(json.offset, halfway)
      t.equal(headers.etag, consumer.headers.etag)
      t.equal(json.lag.records, 12)
      const move = (etag: unknown) => put(after, before.key, everything[10]?.cursor, { 'if-match': `${etag}` })
      t.equal((await move(lost.headers.etag)).statusCode, 412)
      t.equal((await move(headers.etag)).statusCode, 200)
    },
  )

  t.test('a stored record is a duplicate when it is sent again, and a conflict with other content', async (t) => {
    t.match((await after.post(order(1), { authorization })).json, { counts: { duplicate: 1, created: 0 } })
    t.match((await after.post({ ...order(1), data: {} }, { authorization })).status, 409)
  })

  t.test('new records come after all earlier ones, also for a consumer that was halfway', async (t) => {
    for (let n = 101; n <= 105; n++) t.equal((await after.post(order(n), { authorization })).status, 201)
    // Stored after the backup and then lost. Its sender may send it again.
    t.equal((await after.post(order(21), { authorization })).status, 201)

    const now = await readAll(after)
    t.same(now.slice(0, 22), everything)
    t.same(
      now.slice(22).map(({ id }) => id),
      ['101', '102', '103', '104', '105', '21'],
    )
    t.same(await readAll(after, halfway), now.slice(10), 'nothing is missing or repeated')
    t.same(
      await readAll(after, everything.at(-1)?.cursor),
      now.slice(22),
      'the same for a consumer that had read everything',
    )

    const [last, first] = [now[21], now[22]].map((record) => decodeOffset(record?.cursor as string))
    t.ok(BigInt(last?.xid as string) > BigInt(first?.xid as string), 'although the transaction ids started over')
  })

  t.test('the statistics are those of the backup, with the new records', async (t) => {
    const db = connect(fresh.ownerUrl)
    t.teardown(() => db.destroy())
    const read = async (query: string): Promise<Record<string, unknown>[]> =>
      (await after.get(`/v1/stats?${query}`, { authorization })).json.buckets
    await until(
      'the count',
      async () => (await read('bucket=day')).reduce((sum, { records }) => sum + Number(records), 0) === 28,
    )
    for (const bucket of ['minute', 'hour', 'day'])
      for (const by of ['type', 'source']) {
        const { rows } = await sql`
          SELECT to_char(date_trunc(${bucket}, received_at, 'UTC') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS start,
                 ${sql.ref(by)}, count(*)::integer AS records
          FROM sluice.records GROUP BY 1, 2 ORDER BY 1, 2`.execute(db)
        // A duplicate or a conflict has a bucket too, perhaps in a minute without a new record.
        const counted = (await read(`bucket=${bucket}&by=${by}`)).filter(({ records }) => records !== 0)
        t.same(
          counted.map(({ start, records, [by]: name }) => ({ start, [by]: name, records })),
          rows,
          `${bucket}, ${by}`,
        )
      }
  })
})

/** Stores the offset of a consumer. */
function put({ app }: TestApp, token: string, offset: unknown, condition: Record<string, string>) {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...condition }
  return app.inject({ method: 'PUT', url: '/v1/consumers/billing', headers, payload: JSON.stringify({ offset }) })
}

async function migrateAs(ownerUrl: string): Promise<void> {
  const db = connect(ownerUrl)
  await migrate(db).finally(() => db.destroy())
}

// Uses up transaction ids, far beyond those of a new server. Each of these blocks is a subtransaction with its own id.
async function spendTransactionIds(ownerUrl: string): Promise<void> {
  const db = connect(ownerUrl)
  await sql`
    DO $$
    BEGIN
      FOR i IN 1..10000 LOOP
        BEGIN
          INSERT INTO sluice.epochs (epoch, system_identifier, timeline) VALUES (1000000, 0, 0);
          RAISE EXCEPTION 'rolled back';
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
      END LOOP;
    END
    $$`
    .execute(db)
    .finally(() => db.destroy())
}

/** All records after `cursor`, in feed order, page by page. */
async function readAll({ get }: TestApp, cursor = ''): Promise<{ id: string; cursor: string }[]> {
  const records: { id: string; cursor: string }[] = []
  for (let next: string | null = cursor; next !== null; ) {
    const { json } = await get(`/v1/records?order=asc&limit=3${next === '' ? '' : `&cursor=${next}`}`)
    records.push(...json.records)
    next = json.next
  }
  return records
}
