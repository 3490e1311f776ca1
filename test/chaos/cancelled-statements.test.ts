import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { createApp } from '../helpers/app.ts'
import { connect } from '../helpers/connect.ts'
import { waitsFor } from '../helpers/locks.ts'
import { scrape } from '../helpers/scrape.ts'
import { until } from '../helpers/until.ts'

// A flush that is cancelled, by a person or by a timeout, was answered with 500. One whose INSERT was committed and whose
// comparison was cancelled was answered with not_written, and its records were there.

const row = (id: string) => ({ source: 'cancelled', type: 't', id })

t.test('an INSERT that is cancelled again and again is sent again, and succeeds', async (t) => {
  const { post, open, cancel } = await setUp(t)
  const other = await open()
  await other.insert('1')
  const answers = [
    post(row('1')),
    post([row('2'), row('3')]),
    post([row('4'), row('1')], { prefer: 'handling=strict' }),
  ]
  for (let times = 0; times < 3; times++) await cancel('insert into')
  await other.end('rollback')
  for (const answer of await Promise.all(answers)) t.equal(answer.status < 300, true, answer.text)
})

t.test('a COPY that is cancelled amid its rows is sent again, and each record is created once', async (t) => {
  const { post, copyNext, open, cancel, stored } = await setUp(t)
  const other = await open()
  await other.insert('10')
  const rows = await copyNext()
  const answer = post(rows)
  await cancel('copy sluice.records')
  await cancel('insert into')
  await other.end('rollback')
  t.match(await answer, { status: 201, json: { counts: { created: rows.length } } })
  t.equal(await stored(), rows.length)
})

t.test('a COPY that is cancelled at its commit is sent again, and each record is created once', async (t) => {
  const { post, copyNext, waitAtCommit, cancel, stored } = await setUp(t)
  const rows = await copyNext()
  const goOn = await waitAtCommit()
  const answer = post(rows)
  await cancel('copy sluice.records')
  await cancel('insert into')
  await goOn()
  t.match(await answer, { status: 201, json: { counts: { created: rows.length } } })
  t.equal(await stored(), rows.length)
})

t.test('a comparison that is cancelled after its INSERT was committed: the answer is exact', async (t) => {
  const { post, afterInsert, cancel } = await setUp(t)
  const { answer, unlock } = await afterInsert(() => post([row('taken'), row('new')]))
  await cancel('pg_logical_emit_message')
  await unlock()
  t.match(await answer, { status: 201, json: { counts: { created: 1, duplicate: 1, conflict: 0, rejected: 0 } } })
})

t.test('a comparison that is cancelled when time is up: the outcome is unknown, and not 500', async (t) => {
  const { post, get, afterInsert, cancel } = await setUp(t, { OUTAGE_HOLD_SECONDS: '0' })
  const { answer, unlock } = await afterInsert(() => post([row('taken'), row('new')]))
  await cancel('pg_logical_emit_message')
  t.match(await answer, { status: 503, json: { code: 'database_unavailable', outcome: 'unknown', retryable: true } })
  await unlock()
  t.equal((await get('/v1/records/cancelled/new')).status, 200, 'it is there')
})

for (const [timeout, value] of [
  ['lock_timeout', '1ms'],
  ['statement_timeout', '300ms'],
] as const) {
  t.test(`a comparison that runs into ${timeout} after its INSERT was committed: the answer is exact`, async (t) => {
    const { app, post, afterInsert, limitAfterInsert } = await setUp(t)
    await limitAfterInsert(timeout, value)
    const { answer, unlock } = await afterInsert(() => post([row('taken'), row('new')]))
    const failed = async () => Number((await scrape(app)).value('sluice_flush_retries_total')) > 0
    await Promise.race([until('a failure', failed), answer])
    await unlock()
    t.match(await answer, { status: 201, json: { counts: { created: 1, duplicate: 1, conflict: 0, rejected: 0 } } })
  })

  t.test(`a comparison that runs into ${timeout} when time is up: the outcome is unknown, and not 500`, async (t) => {
    const { post, get, afterInsert, limitAfterInsert } = await setUp(t, { OUTAGE_HOLD_SECONDS: '0' })
    await limitAfterInsert(timeout, value)
    const { answer, unlock } = await afterInsert(() => post([row('taken'), row('new')]))
    t.match(await answer, { status: 503, json: { code: 'database_unavailable', outcome: 'unknown', retryable: true } })
    await unlock()
    t.equal((await get('/v1/records/cancelled/new')).status, 200, 'it is there')
  })
}

async function setUp(t: Test, settings: Record<string, string> = {}) {
  // Where a request is to succeed, only what hangs meets the end of the window.
  const server = await createApp(t, { FLUSH_CONCURRENCY: '1', OUTAGE_HOLD_SECONDS: '300', ...settings })
  const root = connect(server.database.superUrl, 4)
  t.teardown(() => root.destroy())

  /** A transaction of somebody else. */
  async function open() {
    const trx = await root.startTransaction().execute()
    return {
      insert: (id: string) =>
        sql`INSERT INTO sluice.records (epoch, n, source, id, type)
            VALUES (sluice.current_epoch(), 0, 'cancelled', ${id}, 't')`.execute(trx),
      lock: () => sql`LOCK TABLE sluice.records IN ACCESS EXCLUSIVE MODE`.execute(trx),
      end: (how: 'commit' | 'rollback') => trx[how]().execute(),
    }
  }

  /** The backend of ours that waits for a lock with such a statement, after those that were cancelled already. */
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

  /** Without a window, a pause of the machine is an outage: what is refused before its INSERT is sent again. */
  async function begin<T>(send: () => Promise<T>) {
    for (;;) {
      const answer = send()
      const isWaiting = waiting('insert into').then(() => true)
      if (await Promise.race([isWaiting, answer.then(() => false)])) return { answer }
    }
  }

  /** Sends records, one of which is taken, and keeps everybody from the table once the INSERT is committed. */
  async function afterInsert<T>(send: () => Promise<T>) {
    const [holder, locker] = [await open(), await open()]
    await holder.insert('taken')
    const { answer } = await begin(send)
    const locked = locker.lock()
    // The lock is next in the queue. The INSERT waits for the transaction of the holder, not for the table.
    await waitsFor(root, 'sluice.records')
    await holder.end('commit')
    await locked
    return { answer, unlock: () => locker.end('commit') }
  }

  /** @returns records that PostgreSQL gets by COPY if they are the next, since all before them were new */
  async function copyNext() {
    const before = Array.from({ length: 10_000 }, (_, n) => ({ ...row(`${n}`), source: 'before' }))
    t.equal((await server.post(before)).status, 201)
    return Array.from({ length: 16 }, (_, n) => row(`${n}`))
  }

  const stored = async () => {
    const { rows } = await sql<{ count: number }>`
      SELECT count(*)::integer AS count FROM sluice.records WHERE source = 'cancelled'`.execute(root)
    return rows[0]?.count
  }

  /** Commits of records wait for a lock. @returns what ends that */
  async function waitAtCommit() {
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

  /** Sessions of ours get a timeout with their first INSERT, for the statements after it. */
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
  return { ...server, open, cancel, afterInsert, copyNext, stored, waitAtCommit, limitAfterInsert }
}
