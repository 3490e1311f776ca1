import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { untilBlocked } from '../helpers/locks.ts'
import { scrape } from '../helpers/scrape.ts'
import { until } from '../helpers/until.ts'

// A flush that was cancelled, by a person or by a timeout, got 500. If the INSERT was committed and the comparison was cancelled,
// the outcome was `not_written`, although the records were stored.

const row = (id: string) => ({ source: 'cancelled', type: 't', id })

t.test('an INSERT that is cancelled several times is retried and succeeds', async (t) => {
  const { post, beginOther, cancel } = await setUp(t)
  const other = await beginOther()
  await other.insert('1')
  const responses = [
    post(row('1')),
    post([row('2'), row('3')]),
    post([row('4'), row('1')], { prefer: 'handling=strict' }),
  ]
  for (let times = 0; times < 3; times++) await cancel('insert into')
  await other.end('rollback')
  for (const response of await Promise.all(responses)) t.equal(response.status < 300, true, response.text)
})

t.test('a COPY that is cancelled between its rows is retried, and each record is created once', async (t) => {
  const { post, prepareCopy, beginOther, cancel, stored } = await setUp(t)
  const other = await beginOther()
  await other.insert('10')
  const rows = await prepareCopy()
  const response = post(rows)
  await cancel('copy sluice.records')
  await cancel('insert into')
  await other.end('rollback')
  t.match(await response, { status: 201, json: { counts: { created: rows.length } } })
  t.equal(await stored(), rows.length)
})

t.test('a COPY that is cancelled at its commit is retried, and each record is created once', async (t) => {
  const { post, prepareCopy, blockCommits, cancel, stored } = await setUp(t)
  const rows = await prepareCopy()
  const unblock = await blockCommits()
  const response = post(rows)
  await cancel('copy sluice.records')
  await cancel('insert into')
  await unblock()
  t.match(await response, { status: 201, json: { counts: { created: rows.length } } })
  t.equal(await stored(), rows.length)
})

t.test('a comparison that is cancelled after its INSERT was committed gives exact counts', async (t) => {
  const { post, afterInsert, cancel } = await setUp(t)
  const { response, unlock } = await afterInsert(() => post([row('taken'), row('new')]))
  await cancel('pg_logical_emit_message')
  await unlock()
  t.match(await response, { status: 201, json: { counts: { created: 1, duplicate: 1, conflict: 0, rejected: 0 } } })
})

t.test('a comparison that is cancelled after the hold window gets 503 with an unknown outcome', async (t) => {
  const { post, get, afterInsert, cancel } = await setUp(t, { OUTAGE_HOLD_SECONDS: '0' })
  const { response, unlock } = await afterInsert(() => post([row('taken'), row('new')]))
  await cancel('pg_logical_emit_message')
  t.match(await response, { status: 503, json: { code: 'database_unavailable', outcome: 'unknown', retryable: true } })
  await unlock()
  t.equal((await get('/v1/records/cancelled/new')).status, 200, 'the record is stored')
})

for (const [timeout, value] of [
  ['lock_timeout', '1ms'],
  ['statement_timeout', '300ms'],
] as const) {
  t.test(`a comparison that ${timeout} ends after its INSERT was committed gives exact counts`, async (t) => {
    const { app, post, afterInsert, limitAfterInsert } = await setUp(t)
    await limitAfterInsert(timeout, value)
    const { response, unlock } = await afterInsert(() => post([row('taken'), row('new')]))
    const failed = async () => Number((await scrape(app)).value('sluice_flush_retries_total')) > 0
    await Promise.race([until('a retry', failed), response])
    await unlock()
    t.match(await response, { status: 201, json: { counts: { created: 1, duplicate: 1, conflict: 0, rejected: 0 } } })
  })

  t.test(`a comparison that ${timeout} ends after the hold window gets 503 with an unknown outcome`, async (t) => {
    const { post, get, afterInsert, limitAfterInsert } = await setUp(t, { OUTAGE_HOLD_SECONDS: '0' })
    await limitAfterInsert(timeout, value)
    const { response, unlock } = await afterInsert(() => post([row('taken'), row('new')]))
    t.match(await response, {
      status: 503,
      json: { code: 'database_unavailable', outcome: 'unknown', retryable: true },
    })
    await unlock()
    t.equal((await get('/v1/records/cancelled/new')).status, 200, 'the record is stored')
  })
}

async function setUp(t: Test, settings: Record<string, string> = {}) {
  // A request that should succeed reaches the end of this window only if something hangs.
  const server = await createApp(t, { FLUSH_CONCURRENCY: '1', OUTAGE_HOLD_SECONDS: '300', ...settings })
  const root = connect(server.database.superUrl, 4)
  t.teardown(() => root.destroy())

  /** A transaction of another session. */
  async function beginOther() {
    const trx = await root.startTransaction().execute()
    return {
      insert: (id: string) =>
        sql`INSERT INTO sluice.records (epoch, n, source, id, type)
            VALUES (sluice.current_epoch(), 0, 'cancelled', ${id}, 't')`.execute(trx),
      lock: () => sql`LOCK TABLE sluice.records IN ACCESS EXCLUSIVE MODE`.execute(trx),
      end: (how: 'commit' | 'rollback') => trx[how]().execute(),
    }
  }

  /** The backend of Sluice that waits for a lock with such a statement, and was not cancelled yet. */
  const cancelled = new Set<string>()
  function waiting(statement: string) {
    return until(`a statement with ${statement} that waits for a lock`, async () => {
      const { rows } = await sql<{ pid: number; begin: string }>`
        SELECT pid, query_start::text AS begin FROM pg_stat_activity
        WHERE application_name = 'sluice-write' AND datname = current_database() AND wait_event_type = 'Lock'
          AND strpos(lower(query), ${statement}) > 0`.execute(root)
      return rows.find(({ begin }) => !cancelled.has(begin))
    })
  }

  async function cancel(statement: string): Promise<void> {
    const { pid, begin } = await waiting(statement)
    cancelled.add(begin)
    await sql`SELECT pg_cancel_backend(${pid})`.execute(root)
  }

  /**
   * Sends a request until its INSERT waits for a lock. Without a hold window, a pause of the machine is an outage, and a request
   * that is refused before its INSERT is sent again.
   */
  async function sendUntilInsert<T>(send: () => Promise<T>) {
    for (;;) {
      const response = send()
      const isWaiting = waiting('insert into').then(() => true)
      if (await Promise.race([isWaiting, response.then(() => false)])) return { response }
    }
  }

  /** Sends records, one of which is already stored. Locks the table as soon as the INSERT is committed. */
  async function afterInsert<T>(send: () => Promise<T>) {
    const [holder, locker] = [await beginOther(), await beginOther()]
    await holder.insert('taken')
    const { response } = await sendUntilInsert(send)
    const locked = locker.lock()
    // The lock is next in the queue. The INSERT waits for the transaction of the holder, not for the table.
    await untilBlocked(root, 'sluice.records')
    await holder.end('commit')
    await locked
    return { response, unlock: () => locker.end('commit') }
  }

  /** Stores enough new records that the next ones are copied. @returns the next ones */
  async function prepareCopy() {
    const before = Array.from({ length: 10_000 }, (_, n) => ({ ...row(`${n}`), source: 'before' }))
    t.equal((await server.post(before)).status, 201)
    return Array.from({ length: 16 }, (_, n) => row(`${n}`))
  }

  const stored = async () => {
    const { rows } = await sql<{ count: number }>`
      SELECT count(*)::integer AS count FROM sluice.records WHERE source = 'cancelled'`.execute(root)
    return rows[0]?.count
  }

  /** Makes commits of records wait for a lock. @returns a function that releases it */
  async function blockCommits() {
    await sql
      .raw(`
        CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON sluice.records DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE FUNCTION public.wait()`)
      .execute(root)
    const trx = await root.startTransaction().execute()
    await sql`SELECT pg_advisory_xact_lock(1)`.execute(trx)
    return () => trx.commit().execute()
  }

  /** The first INSERT of a writer sets a timeout for the later statements of its session. */
  async function limitAfterInsert(timeout: string, value: string) {
    await sql
      .raw(`
        CREATE FUNCTION public.limit_session() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF current_setting('application_name') = 'sluice-write' THEN
            PERFORM set_config('${timeout}', '${value}', false);
          END IF;
          RETURN NULL;
        END $$;
        CREATE TRIGGER limit_session AFTER INSERT ON sluice.records
          FOR EACH STATEMENT EXECUTE FUNCTION public.limit_session()`)
      .execute(root)
  }
  return { ...server, beginOther, cancel, afterInsert, prepareCopy, stored, blockCommits, limitAfterInsert }
}
