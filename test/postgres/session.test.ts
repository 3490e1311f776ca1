import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { copyRecords } from '../../src/data/copy-records.ts'
import { insertRecords, toColumns } from '../../src/data/insert-records.ts'
import { createRecordStore } from '../../src/data/record-store.ts'
import { selectRecord } from '../../src/data/select-records.ts'
import { connect, withClient } from '../../src/postgres/connect.ts'
import type { Database } from '../../src/postgres/tables.ts'
import { createApp } from '../helpers/app.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { createDatabase, type TestDatabase } from '../helpers/postgres.ts'
import { makeRow } from '../helpers/rows.ts'
import { until } from '../helpers/until.ts'

/** A database in which an administrator has set `settings` for the API's role. */
async function createDatabaseWith(t: Test, settings: Record<string, string>): Promise<TestDatabase> {
  const database = await createDatabase(t)
  const root = connectAs(database.superUrl)
  for (const [name, value] of Object.entries(settings)) {
    // A list of names must not be quoted as one name.
    const to = name === 'search_path' ? sql.raw(value) : sql.lit(value)
    await sql`ALTER ROLE sluice_api IN DATABASE ${sql.id(database.name)} SET ${sql.id(name)} = ${to}`.execute(root)
  }
  await root.destroy()
  return database
}

function open(t: Test, url: string, connections = 1): Database {
  const db = connect({
    url,
    name: 'session',
    connections,
    statementTimeoutMs: 0,
    prepare: true,
    plan: 'byIdentity',
    onError: () => {},
  })
  t.teardown(() => db.destroy())
  return db
}

/** Notes for each record the settings with which its transaction commits. @returns a function that returns them by id */
async function watchCommits(t: Test, database: TestDatabase): Promise<() => Promise<Record<string, string>>> {
  const root = connectAs(database.superUrl)
  t.teardown(() => root.destroy())
  await sql
    .raw(`
      CREATE TABLE public.committed (id text, setting text);
      CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
      BEGIN
        INSERT INTO public.committed VALUES (NEW.id, current_setting('synchronous_commit') || ' ' || current_setting('client_min_messages'));
        RETURN NULL;
      END $$;
      CREATE CONSTRAINT TRIGGER note AFTER INSERT ON sluice.records DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION public.note()`)
    .execute(root)
  return async () => {
    const { rows } = await sql<{ id: string; setting: string }>`SELECT id, setting FROM public.committed`.execute(root)
    return Object.fromEntries(rows.map(({ id, setting }) => [id, setting]))
  }
}

const writesOf = (db: Database) => {
  const store = createRecordStore(db)
  return {
    insert: () => store.write([makeRow({ id: 'insert' })], store.newBase()),
    copy: () => copyRecords(db, [makeRow({ id: 'copy' })], store.newBase().first),
    strict: () => store.writeStrict([makeRow({ id: 'strict' })], store.newBase()),
  }
}

const forAll = (setting: string) => ({ insert: setting, copy: setting, strict: setting })

for (const [weak, strong] of [
  ['off', 'on'],
  ['local', 'on'],
  ['remote_write', 'on'],
  ['on', 'on'],
  ['remote_apply', 'remote_apply'],
] as const) {
  // With `off`, after kill -9 of PostgreSQL, 200 of 200 acknowledged records were lost.
  t.test(`records are committed with synchronous_commit ${strong} if the role has ${weak}`, async (t) => {
    const database = await createDatabaseWith(t, { synchronous_commit: weak, client_min_messages: 'error' })
    const committed = await watchCommits(t, database)
    const db = open(t, database.apiUrl)
    for (const write of Object.values(writesOf(db))) await write()
    t.same(await committed(), forAll(`${strong} warning`))
    const { rows } = await sql`SELECT current_setting('synchronous_commit') AS session`.execute(db)
    t.same(
      rows,
      [{ session: strong }],
      'the whole session, so that other statements are safe too, such as revoking a key',
    )
  })
}

t.test('records are committed as promised behind a pooler that resets session settings', async (t) => {
  const database = await createDatabaseWith(t, {})
  const committed = await watchCommits(t, database)
  const db = open(t, database.apiUrl)
  const resetSettings = () =>
    withClient(db, '', (client) => client.query('SET synchronous_commit = off; SET client_min_messages = error'))
  for (const write of Object.values(writesOf(db))) {
    await resetSettings()
    await write()
  }
  t.same(await committed(), forAll('on warning'))
})

t.test('unusual settings of the role change nothing for clients', async (t) => {
  const unusual = {
    statement_timeout: '250',
    lock_timeout: '250',
    idle_in_transaction_session_timeout: '250',
    idle_session_timeout: '250',
    transaction_timeout: '250',
    default_transaction_isolation: 'serializable',
    default_transaction_deferrable: 'on',
    enable_indexscan: 'off',
    enable_bitmapscan: 'off',
    search_path: 'public, pg_catalog',
    TimeZone: 'Asia/Kolkata',
    DateStyle: 'German, DMY',
    IntervalStyle: 'sql_standard',
    bytea_output: 'escape',
    client_encoding: 'LATIN1',
    extra_float_digits: '-15',
    standard_conforming_strings: 'off',
    backslash_quote: 'off',
    row_security: 'off',
    array_nulls: 'off',
    transform_null_equals: 'on',
    synchronous_commit: 'off',
    client_min_messages: 'error',
  }
  const database = await createDatabaseWith(t, unusual)
  const root = connectAs(database.superUrl)
  // With `public` first in the search path, the `=` in the API's statements would be this operator.
  await sql`CREATE FUNCTION public.never(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false'`.execute(root)
  await sql`CREATE OPERATOR public.= (FUNCTION = public.never, LEFTARG = text, RIGHTARG = text)`.execute(root)
  await sql`GRANT USAGE ON SCHEMA public TO sluice_api`.execute(root)
  const { post, get } = await createApp(t, {}, database)

  const record = {
    source: 'shop',
    type: 't',
    id: '1',
    time: '2026-02-01T03:04:05.678901Z',
    data: { text: 'caf\u00e9 \\ \u{1f980}', digits: 0.1 },
  }
  const bytes = { source: 'shop', type: 't', id: '2', data_base64: 'AAEC/w==' }
  t.match(await post([record, bytes]), { status: 201, json: { counts: { created: 2 } } })
  t.match(await post([record, bytes]), { status: 200, json: { counts: { duplicate: 2 } } })
  t.match(await post([record, { ...bytes, type: 'other' }]), { json: { counts: { duplicate: 1, conflict: 1 } } })
  const strict = { prefer: 'handling=strict' }
  t.match(await post([{ ...record, id: '3' }, bytes], strict), { json: { counts: { created: 1, duplicate: 1 } } })
  t.match((await get('/v1/records/shop/1')).json, record)
  // A list upwards waits for open transactions. A transaction of another test file may be open at this moment.
  const listed = await until('a list of all records', async () => {
    const { records } = (await get('/v1/records?order=asc&limit=10')).json
    return records.length === 3 && records
  })
  t.match(listed, [record, bytes, { ...record, id: '3' }])
  t.match(
    (await get('/v1/records?timeFrom=2026-02-01T03:04:05Z&timeUntil=2026-02-01T03:04:06Z')).json.records.length,
    2,
  )

  // Another transaction blocks the identity for longer than any of the timeouts.
  const trx = await root.startTransaction().execute()
  await sql`INSERT INTO sluice.records (epoch, n, source, id, type) VALUES (1, 0, 'shop', '4', 't')`.execute(trx)
  const waiting = post({ ...record, id: '4' })
  await sql`SELECT pg_sleep(0.6)`.execute(trx)
  await trx.rollback().execute()
  t.match(await waiting, { status: 201 })
  await root.destroy()
})

// Otherwise the writer would retry forever, and the client would wait.
t.test('settings of the role do not keep an INSERT from waiting for a concurrent row and skipping it', async (t) => {
  const database = await createDatabaseWith(t, { lock_timeout: '1', default_transaction_isolation: 'serializable' })
  const root = connectAs(database.superUrl, 2)
  t.teardown(() => root.destroy())
  const db = open(t, database.apiUrl)
  const trx = await root.startTransaction().execute()
  await sql`INSERT INTO sluice.records (epoch, n, source, id, type) VALUES (1, 0, 'shop', '1', 't')`.execute(trx)
  const inserting = insertRecords(db, toColumns([makeRow()]), 0)
  inserting.catch(() => {})
  await until('the insert to wait', async () => {
    const { rows } = await sql`
      SELECT FROM pg_stat_activity WHERE application_name = 'session' AND datname = current_database()
        AND (wait_event_type = 'Lock' OR state LIKE 'idle%')`.execute(root)
    return rows.length > 0
  })
  await trx.commit().execute()
  t.match(await inserting, { created: 0 })
})

t.test('options of the database URL apply, except the settings that Sluice relies on', async (t) => {
  const { apiUrl } = await createDatabase(t)
  const options = encodeURIComponent('-c work_mem=5MB -c TimeZone=Asia/Kolkata')
  // The driver has its own parameters for these.
  const timeouts = 'statement_timeout=1000&lock_timeout=1&idle_in_transaction_session_timeout=1'
  const db = open(t, `${apiUrl}?options=${options}&${timeouts}`)
  const store = createRecordStore(db)
  await store.write([makeRow({ time: '2026-02-01T03:04:05Z' })], store.newBase())
  t.match(await selectRecord(db, 'shop', '1'), { time: '2026-02-01 03:04:05+00' })
  const { rows } = await sql`SELECT current_setting('work_mem') AS memory`.execute(db)
  t.same(rows, [{ memory: '5MB' }])
  const { rows: timeoutSettings } = await sql<{ name: string }>`
    SELECT name, setting FROM pg_settings WHERE name ~ '^(statement|lock|idle_in_transaction_session)_timeout$' ORDER BY name
  `.execute(db)
  t.match(timeoutSettings, [
    { name: 'idle_in_transaction_session_timeout', setting: '5000' },
    { name: 'lock_timeout', setting: '0' },
    { name: 'statement_timeout', setting: '0' },
  ])
})
