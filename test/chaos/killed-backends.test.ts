import { sql } from 'kysely'
import t from 'tap'
import { decodeOffset } from '../../src/lib/offset.ts'
import { createApp } from '../helpers/app.ts'
import { turn } from '../helpers/clock.ts'
import { connect } from '../helpers/connect.ts'
import { untilBlocked } from '../helpers/locks.ts'
import { until } from '../helpers/until.ts'

t.test('while backends are killed, requests get 2xx, each record is stored once, and counts are exact', async (t) => {
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
  let onResponse = () => {}

  async function client(number: number): Promise<void> {
    for (let request = 0; request < REQUESTS || killed < KILLS; request++) {
      // Every fourth request has records that other clients send too. Every seventh is strict.
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
      onResponse()
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

  // At least one request is answered between two kills, so that the requests make progress.
  async function killer(): Promise<void> {
    for (let round = 0; killed < KILLS; round++) {
      const { rows } = await sql`
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'sluice-write' AND datname = current_database()
          AND (${round % 2 === 0} OR state = 'active')`.execute(root)
      killed += rows.length
      await new Promise<void>((resolve) => {
        onResponse = resolve
      })
    }
  }

  await Promise.all([killer(), ...Array.from({ length: CLIENTS }, (_, number) => client(number))])

  t.comment(`${killed} backends were killed`)
  t.same(refused, [], 'no request was refused')
  const { rows } = await sql<{ id: string; epoch: number; xid: string; n: string }>`
    SELECT id, epoch, xid::text AS xid, n::text AS n FROM sluice.records WHERE source = 'chaos'`.execute(root)
  t.same(
    rows.map(({ id }) => id).sort(),
    [...acknowledged.keys()].sort(),
    'the acknowledged records are stored, and no others',
  )
  t.equal(counts.created, rows.length, 'each record was reported as created once')
  for (const { id, epoch, xid, n } of rows) {
    const results = acknowledged.get(id) ?? []
    const position = { epoch, xid, n: Number(n) }
    if (results.filter(({ status }) => status === 'created').length !== 1) t.fail(`${id}: ${JSON.stringify(results)}`)
    for (const { cursor } of results) if (!same(decodeOffset(cursor), position)) t.fail(`${id} has another cursor`)
  }
})

t.test('after all idle connections were terminated, the next request succeeds', async (t) => {
  const { post, get, database } = await createApp(t)
  const root = connect(database.superUrl)
  t.teardown(() => root.destroy())
  t.equal((await post({ source: 's', id: '1', type: 'x' })).status, 201)
  t.equal((await get('/v1/records/s/1')).status, 200)
  await sql`SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
            WHERE application_name LIKE 'sluice-%' AND datname = current_database()`.execute(root)
  t.equal((await post({ source: 's', id: '2', type: 'x' })).status, 201)
})

t.test('while the database refuses connections, requests wait, and then they are answered', async (t) => {
  const { post, app, logs, database } = await createApp(t)
  t.equal((await post({ source: 's', id: 'warm', type: 'x' })).status, 201)
  const elsewhere = connect(new URL('/postgres', database.superUrl).href)
  t.teardown(() => elsewhere.destroy())
  await sql`ALTER DATABASE ${sql.id(database.name)} ALLOW_CONNECTIONS false`.execute(elsewhere)
  await sql`SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = ${database.name}`.execute(
    elsewhere,
  )

  const responses = ['a', 'b', 'c'].map((id) => post({ source: 's', id, type: 'x' }))
  while (!logs.some(({ msg }) => String(msg).includes('the database is unavailable'))) await turn()
  t.equal((await app.inject('/healthz')).statusCode, 200)
  await sql`ALTER DATABASE ${sql.id(database.name)} ALLOW_CONNECTIONS true`.execute(elsewhere)

  for (const response of await Promise.all(responses))
    t.match(response, { status: 201, json: { counts: { created: 1 } } })
  t.ok(logs.some(({ msg }) => String(msg).includes('the database is available again')))
})

t.test('an outage longer than the hold window gives 503 with Retry-After; a retry succeeds afterwards', async (t) => {
  const { post, database } = await createApp(t, { OUTAGE_HOLD_SECONDS: '0.1' })
  // With this window, a pause of the machine is an outage too. So each record is sent until it is stored, as clients do.
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
})

t.test('the database refuses a record of a batch', async (t) => {
  const { post, database, app, key } = await createApp(t, { FLUSH_CONCURRENCY: '1' })
  const root = connect(database.superUrl, 2)
  t.teardown(() => root.destroy())
  // A constraint that is not part of Sluice, so no earlier check finds the record.
  await sql`ALTER TABLE sluice.records ADD CONSTRAINT not_guilty CHECK (type <> 'guilty')`.execute(root)
  const stored = async (source: string) => {
    const { rows } = await sql<{ id: string }>`
      SELECT id FROM sluice.records WHERE source = ${source} ORDER BY id`.execute(root)
    return rows.map(({ id }) => id)
  }
  const batch = (source: string, guilty: string[]) =>
    ['a', 'b', 'c', 'd', 'e'].map((id) => ({ source, id, type: guilty.includes(id) ? 'guilty' : 'x' }))

  await t.test('207: its result is rejected, and the other records are stored', async (t) => {
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

  await t.test('422 if it is the only record, and nothing is stored', async (t) => {
    t.match(await post({ source: 'one', type: 'guilty' }), {
      status: 422,
      json: { code: 'refused_by_database', retryable: false, outcome: 'not_written' },
    })
    t.same(await stored('one'), [])
  })

  await t.test('422 if all records of a batch are refused, with an error for each', async (t) => {
    const { status, json } = await post(batch('all', ['a', 'b', 'c', 'd', 'e']))
    t.equal(status, 422)
    t.same(
      json.errors.map(({ index }: { index: number }) => index),
      [0, 1, 2, 3, 4],
    )
  })

  await t.test('422 with handling=strict, and nothing is stored', async (t) => {
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

  await t.test('other requests in the same flush get 201', async (t) => {
    // While a lock blocks the first flush, the other requests gather for the second one.
    const trx = await root.startTransaction().execute()
    await sql`LOCK TABLE sluice.records IN SHARE MODE`.execute(trx)
    const first = post({ source: 'first', type: 'x' })
    await untilBlocked(trx, 'sluice.records')

    const bodies = ['u', 'v', 'w', 'x', 'y', 'z'].map((source) =>
      JSON.stringify(batch(source, source === 'w' ? ['c'] : [])),
    )
    const injected = bodies.map((body) =>
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
    const responses = await Promise.all(injected)
    t.same(
      responses.map(({ statusCode }) => statusCode),
      [201, 201, 207, 201, 201, 201],
    )
    for (const source of ['u', 'v', 'x', 'y', 'z']) t.same(await stored(source), ['a', 'b', 'c', 'd', 'e'])
    t.same(await stored('w'), ['a', 'b', 'd', 'e'])
    const transactions = responses.map((response) => decodeOffset(response.json().results[4].cursor)?.xid)
    t.ok(new Set(transactions).size < responses.length, 'they shared transactions')
  })
})

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}
