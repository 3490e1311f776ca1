import { sql } from 'kysely'
import t from 'tap'
import { decodeCursor } from '../../src/lib/cursor.ts'
import { createApp } from '../helpers/app.ts'
import { turn } from '../helpers/clock.ts'
import { connect } from '../helpers/connect.ts'
import { waitsFor } from '../helpers/locks.ts'
import { until } from '../helpers/until.ts'

t.test(
  'backends are killed during flushes: every request gets 2xx, every record is stored once, and the counts are exact',
  async (t) => {
    const { app, database, key } = await createApp(t, { FLUSH_MAX_ROWS: '40', OUTAGE_HOLD_SECONDS: '300' })
    const root = connect(database.superUrl, 2)
    t.teardown(() => root.destroy())
    const url = `${await app.listen({ port: 0 })}/v1/records`

    const CLIENTS = 12
    const REQUESTS = 40
    const KILLS = 40
    const acknowledged = new Map<string, { status: string; cursor: string }[]>()
    const counts = { created: 0, duplicate: 0 }
    const refused: string[] = []
    let killed = 0
    let wake = () => {}

    async function client(number: number): Promise<void> {
      for (let request = 0; request < REQUESTS || killed < KILLS; request++) {
        // Every fourth request brings records that another client sends too; every seventh is strict.
        const shared = request % 4 === 0
        const records = Array.from({ length: 1 + ((number + request) % 5) }, (_, index) => ({
          source: 'chaos',
          id: shared ? `shared ${request} ${index}` : `${number} ${request} ${index}`,
          type: 'x',
          data: { request, index },
        }))
        const response = await fetch(url, {
          method: 'POST',
          headers: {
            authorization: `Bearer ${key}`,
            'content-type': 'application/json',
            ...(request % 7 === 0 ? { prefer: 'handling=strict' } : {}),
          },
          body: JSON.stringify(records),
        })
        const text = await response.text()
        wake()
        if (response.status !== 200 && response.status !== 201) {
          refused.push(`${response.status} ${text}`)
          continue
        }
        const body = JSON.parse(text)
        counts.created += body.counts.created
        counts.duplicate += body.counts.duplicate
        for (const { id, status, cursor } of body.results) {
          acknowledged.set(id, [...(acknowledged.get(id) ?? []), { status, cursor }])
        }
      }
    }

    // Between two kills at least one request is answered, so that this cannot starve anybody.
    async function killer(): Promise<void> {
      for (let round = 0; killed < KILLS; round++) {
        const { rows } = await sql`
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'sluice-write' AND datname = current_database()
          AND (${round % 2 === 0} OR state = 'active')`.execute(root)
        killed += rows.length
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }

    await Promise.all([killer(), ...Array.from({ length: CLIENTS }, (_, number) => client(number))])

    t.comment(`${killed} backends were killed`)
    t.same(refused, [], 'nobody was refused')
    const { rows } = await sql<{ id: string; epoch: number; xid: string; n: string }>`
    SELECT id, epoch, xid::text AS xid, n::text AS n FROM sluice.records WHERE source = 'chaos'`.execute(root)
    t.same(rows.map(({ id }) => id).sort(), [...acknowledged.keys()].sort(), 'what is stored is what was acknowledged')
    t.equal(counts.created, rows.length, 'each row was told created once')
    for (const { id, epoch, xid, n } of rows) {
      const answers = acknowledged.get(id) ?? []
      const position = { epoch, xid, n: Number(n) }
      if (answers.filter(({ status }) => status === 'created').length !== 1) t.fail(`${id}: ${JSON.stringify(answers)}`)
      for (const { cursor } of answers) if (!same(decodeCursor(cursor), position)) t.fail(`${id} has another cursor`)
    }
  },
)

t.test(
  'the database restarts nothing but the connections: both idle pools are cut, and the next requests notice nothing',
  async (t) => {
    const { post, get, database } = await createApp(t)
    const root = connect(database.superUrl)
    t.teardown(() => root.destroy())
    t.equal((await post({ source: 's', id: '1', type: 'x' })).status, 201)
    t.equal((await get('/v1/records/s/1')).status, 200)
    await sql`SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
            WHERE application_name LIKE 'sluice-%' AND datname = current_database()`.execute(root)
    t.equal((await post({ source: 's', id: '2', type: 'x' })).status, 201)
  },
)

t.test('the database turns everybody away for a while: requests wait, and are answered when it is back', async (t) => {
  const { post, app, logs, database } = await createApp(t)
  t.equal((await post({ source: 's', id: 'warm', type: 'x' })).status, 201)
  const elsewhere = connect(new URL('/postgres', database.superUrl).href)
  t.teardown(() => elsewhere.destroy())
  await sql`ALTER DATABASE ${sql.id(database.name)} ALLOW_CONNECTIONS false`.execute(elsewhere)
  await sql`SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = ${database.name}`.execute(
    elsewhere,
  )

  const answers = ['a', 'b', 'c'].map((id) => post({ source: 's', id, type: 'x' }))
  while (!logs.some(({ msg }) => String(msg).includes('the database is unavailable'))) await turn()
  t.equal((await app.inject('/healthz')).statusCode, 200)
  await sql`ALTER DATABASE ${sql.id(database.name)} ALLOW_CONNECTIONS true`.execute(elsewhere)

  for (const answer of await Promise.all(answers)) t.match(answer, { status: 201, json: { counts: { created: 1 } } })
  t.ok(logs.some(({ msg }) => String(msg).includes('the database is available again')))
})

t.test(
  'an outage beyond the hold window is 503, retryable, with Retry-After; the same request succeeds afterwards',
  async (t) => {
    const { post, database } = await createApp(t, { OUTAGE_HOLD_SECONDS: '0.1' })
    // With this window a pause of the machine is an outage too: as a client does, each is sent until it is stored.
    const store = (id: string) =>
      until(`${id} to be stored`, async () => (await post({ source: 's', id, type: 'x' })).status < 300)
    await store('warm')
    const elsewhere = connect(new URL('/postgres', database.superUrl).href)
    t.teardown(() => elsewhere.destroy())
    await sql`ALTER DATABASE ${sql.id(database.name)} ALLOW_CONNECTIONS false`.execute(elsewhere)
    await sql`SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = ${database.name}`.execute(
      elsewhere,
    )

    const refused = await post({ source: 's', id: 'a', type: 'x' })
    t.match(refused, {
      status: 503,
      headers: { 'content-type': 'application/problem+json', 'retry-after': '1' },
      json: { code: 'database_unavailable', retryable: true },
    })
    await sql`ALTER DATABASE ${sql.id(database.name)} ALLOW_CONNECTIONS true`.execute(elsewhere)
    await store('a')
  },
)

t.test('the database finds fault with one record of a batch', async (t) => {
  const { post, database, app, key } = await createApp(t, { FLUSH_CONCURRENCY: '1' })
  const root = connect(database.superUrl, 2)
  t.teardown(() => root.destroy())
  // A rule that somebody added past us: nothing of ours could have seen it coming.
  await sql`ALTER TABLE sluice.records ADD CONSTRAINT not_guilty CHECK (type <> 'guilty')`.execute(root)
  const stored = async (source: string) => {
    const { rows } = await sql<{ id: string }>`
      SELECT id FROM sluice.records WHERE source = ${source} ORDER BY id`.execute(root)
    return rows.map(({ id }) => id)
  }
  const batch = (source: string, guilty: string[]) =>
    ['a', 'b', 'c', 'd', 'e'].map((id) => ({ source, id, type: guilty.includes(id) ? 'guilty' : 'x' }))

  await t.test('207: its result says so, and its neighbours are stored', async (t) => {
    const { status, json } = await post(batch('some', ['c']))
    t.equal(status, 207)
    t.same(json.counts, { created: 4, duplicate: 0, conflict: 0, rejected: 1 })
    t.match(json.results[2], {
      index: 2,
      id: 'c',
      status: 'rejected',
      error: { code: 'refused_by_database' },
    })
    t.same(await stored('some'), ['a', 'b', 'd', 'e'])
  })

  await t.test('422 when it is the only one, and nothing is stored', async (t) => {
    t.match(await post({ source: 'one', type: 'guilty' }), {
      status: 422,
      json: { code: 'refused_by_database', retryable: false, outcome: 'not_written' },
    })
    t.same(await stored('one'), [])
  })

  await t.test('422 when all of a batch are guilty, with a reason for each', async (t) => {
    const { status, json } = await post(batch('all', ['a', 'b', 'c', 'd', 'e']))
    t.equal(status, 422)
    t.same(
      json.errors.map(({ index }: { index: number }) => index),
      [0, 1, 2, 3, 4],
    )
  })

  await t.test('with handling=strict all are refused, and nothing is stored', async (t) => {
    const strict = await post(batch('strict', ['b', 'd']), { prefer: 'handling=strict' })
    t.match(strict, { status: 422, json: { code: 'strict_refused', outcome: 'not_written' } })
    t.same(
      strict.json.errors.map(({ index, code }: { index: number; code: string }) => [index, code]),
      [
        [1, 'refused_by_database'],
        [3, 'refused_by_database'],
      ],
    )
    t.same(await stored('strict'), [])
  })

  await t.test('strangers that share its flush get 201, as if it had not been there', async (t) => {
    // While a lock keeps the first flush at the database, the others gather for the second.
    const trx = await root.startTransaction().execute()
    await sql`LOCK TABLE sluice.records IN SHARE MODE`.execute(trx)
    const first = post({ source: 'first', type: 'x' })
    await waitsFor(trx, 'sluice.records')

    const bodies = ['u', 'v', 'w', 'x', 'y', 'z'].map((source) =>
      JSON.stringify(batch(source, source === 'w' ? ['c'] : [])),
    )
    const answers = bodies.map((body) =>
      app.inject({
        method: 'POST',
        url: '/v1/records',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        payload: body,
      }),
    )
    while (app.writer.status.waiting < bodies.length + 1) await turn()
    await trx.rollback().execute()

    t.equal((await first).status, 201)
    const responses = await Promise.all(answers)
    t.same(
      responses.map(({ statusCode }) => statusCode),
      [201, 201, 207, 201, 201, 201],
    )
    for (const source of ['u', 'v', 'x', 'y', 'z']) t.same(await stored(source), ['a', 'b', 'c', 'd', 'e'])
    t.same(await stored('w'), ['a', 'b', 'd', 'e'])
    const transactions = responses.map((response) => decodeCursor(response.json().results[4].cursor)?.xid)
    t.ok(new Set(transactions).size < responses.length, 'they did share transactions')
  })
})

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}
