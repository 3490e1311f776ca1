import { type Kysely, sql } from 'kysely'
import t from 'tap'
import { runCommand } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { begin, jobs, maintain, start, write } from '../helpers/maintain.ts'
import { addRecords, ids, many } from '../helpers/retention.ts'
import { until } from '../helpers/until.ts'

const DAY = 86_400
/** Several batches: the first one deletes 500 records, and each later one at most twice as many as the one before. */
const RECORDS = 4000
const CLICKS = '[{ "type": "click", "maxAge": "30d" }]'

t.test('a run that starts while another one is running leaves the work to it', async (t) => {
  const { database, owner, root } = await start(t)
  await addRecords(
    owner,
    many(100, () => ({ type: 'click', age: 40 * DAY })),
  )
  const first = await whileTableIsLocked(root, async (waitingSince) => {
    const first = runCommand(t, ['maintain', '--policies', await write(t, CLICKS)], {
      DATABASE_URL: database.maintenanceUrl,
    })
    await until('the first run to wait for the table', waitingSince)
    const second = await maintain(t, database, CLICKS)
    t.equal(second.code, 0)
    t.match(second.logs, [{ msg: 'another maintenance run holds the lock: nothing to do' }])
    return first
  })
  t.equal(await first.exit, 0)
  t.same(await ids(owner), [])
  t.match(await jobs(database), [{ totals: { removed_records: 100 } }])
})

t.test('SIGTERM ends a run after a batch: it reports what it deleted, and the next run deletes the rest', async (t) => {
  const { database, owner, root } = await start(t)
  await addRecords(
    owner,
    many(RECORDS, (index) => ({ id: `${index}`, age: 40 * DAY })),
  )
  const policies = '[{ "maxAge": "30d" }]'
  const unblock = await stopAfterFirstBatch(root)
  const command = await begin(t, database, policies)
  command.child.kill('SIGTERM')
  await unblock()
  t.equal(await command.exit, 1)
  t.match(command.stderr(), /^sluice: Interrupted by SIGTERM\. To continue, run it again\.\n$/)
  const { records } = await command.log(({ msg }) => msg === 'deleted in total')
  const left = await ids(owner)
  t.ok(left.length > 0 && left.length < RECORDS, `${left.length} are left`)
  t.equal(records, RECORDS - left.length)
  t.equal(left[0], `${records}`, 'the oldest records were deleted first')
  t.match(await jobs(database), [{ succeeded: false, succeededAt: null, totals: { removed_records: records } }])

  t.equal((await maintain(t, database, policies)).code, 0)
  t.same(await ids(owner), [])
  t.match(await jobs(database), [{ succeeded: true, totals: { removed_records: RECORDS } }])
})

t.test('a lost connection ends the run with one sentence, and the next run deletes the rest', async (t) => {
  const { database, owner, root } = await start(t)
  await addRecords(
    owner,
    many(RECORDS, (index) => ({ id: `${index}`, age: 40 * DAY })),
  )
  const elsewhere = connect(new URL('/postgres', database.superUrl).href)
  t.teardown(() => elsewhere.destroy())
  const allow = (yes: boolean) =>
    sql`ALTER DATABASE ${sql.id(database.name)} ALLOW_CONNECTIONS ${sql.lit(yes)}`.execute(elsewhere)

  const unblock = await stopAfterFirstBatch(root)
  const command = await begin(t, database, '[{ "maxAge": "30d" }]')
  await allow(false)
  await sql`SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
            WHERE datname = ${database.name} AND application_name = 'sluice-maintain'`.execute(elsewhere)
  t.equal(await command.exit, 1)
  t.match(
    command.stderr(),
    /^sluice: The connection to the database broke \(the next run continues where this one stopped\): .*\.\n$/,
  )
  t.ok(command.logs().some(({ msg }) => msg === 'the result of this run could not be recorded'))
  await unblock()
  await allow(true)

  const left = await ids(owner)
  t.ok(left.length > 0 && left.length < RECORDS, `${left.length} are left`)
  t.same(
    left,
    many(left.length).map((_, index) => `${RECORDS - left.length + index}`),
    'the oldest records were deleted first',
  )
  t.equal((await maintain(t, database, '[{ "maxAge": "30d" }]')).code, 0)
  t.same(await ids(owner), [])
})

t.test('a run waits while a migration holds the table', async (t) => {
  const { database, owner, root } = await start(t)
  await addRecords(
    owner,
    many(3, () => ({ age: 40 * DAY })),
  )
  const command = await whileTableIsLocked(root, async (waitingSince) => {
    const command = runCommand(t, ['maintain', '--policies', await write(t, '[{ "maxAge": "30d" }]')], {
      DATABASE_URL: database.maintenanceUrl,
    })
    // Longer than its lock_timeout: the statement that waits has failed at least once.
    const first = await until('the run to wait', waitingSince)
    await until('the run to wait again', async () => ![undefined, first].includes(await waitingSince()))
    return command
  })
  t.equal(await command.exit, 0, command.stderr())
  t.same(await ids(owner), [])
})

// — helpers —

/**
 * Lets a run delete its first batch, which contains record 0, and blocks it at the next one.
 * @returns a function that lets the run continue
 */
async function stopAfterFirstBatch(root: Kysely<unknown>): Promise<() => Promise<void>> {
  await sql`
    CREATE FUNCTION public.wait_after_first() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NOT EXISTS (SELECT FROM sluice.records WHERE id = '0') THEN PERFORM pg_advisory_xact_lock_shared(0); END IF;
      RETURN NULL;
    END $$`.execute(root)
  await sql`
    CREATE TRIGGER wait_after_first BEFORE DELETE ON sluice.records
    FOR EACH STATEMENT EXECUTE FUNCTION public.wait_after_first()`.execute(root)
  const gate = await root.startTransaction().execute()
  await sql`SELECT pg_advisory_xact_lock(0)`.execute(gate)
  return () => gate.rollback().execute()
}

/**
 * Calls `work` while another transaction locks the table, as a migration does, so that nothing can be deleted.
 * @param work gets a function that returns since when a run has been waiting for the lock; undefined if none is waiting
 */
async function whileTableIsLocked<T>(
  root: Kysely<unknown>,
  work: (waitingSince: () => Promise<string | undefined>) => Promise<T>,
): Promise<T> {
  const migration = await root.startTransaction().execute()
  await sql`LOCK TABLE sluice.records IN SHARE MODE`.execute(migration)
  const result = await work(async () => {
    const { rows } = await sql<{ since: string }>`
      SELECT query_start::text AS since FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'sluice-maintain' AND wait_event_type = 'Lock'`.execute(
      root,
    )
    return rows[0]?.since
  })
  await migration.commit().execute()
  return result
}
