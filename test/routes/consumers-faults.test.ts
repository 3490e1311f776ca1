import { sql } from 'kysely'
import t from 'tap'
import { beginEpoch } from '../../src/data/epochs.ts'
import { decodeOffset, encodeOffset, type Position } from '../../src/lib/offset.ts'
import { connect } from '../helpers/connect.ts'
import { CREATE, match, openConsumers } from '../helpers/consumers-api.ts'
import { isProblem } from '../helpers/problem.ts'
import { listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const server = await openConsumers(t)
const { app, database, makeKey, call, put, store } = server
const root = connect(database.superUrl)
t.teardown(() => root.destroy())

const first = await store('1')
const second = await store('2')

t.test('if the database fails, the outcome says what is known about the change', async (t) => {
  const { etag } = (await put('outcome', first)).headers
  await withTrigger("RAISE EXCEPTION 'no' USING ERRCODE = '53100'", async () => {
    const refused = await put('outcome', second, match(etag))
    isProblem(t, refused, 'database_unavailable')
  })
  await withTrigger('PERFORM pg_terminate_backend(pg_backend_pid())', async () => {
    const outcome = 'unknown'
    isProblem(t, await put('outcome', second, match(etag)), 'database_unavailable', { outcome })
    // Without a check of the offset, which may find the broken connection first.
    isProblem(t, await put('other', '-1'), 'database_unavailable', { outcome })
    isProblem(t, await call('DELETE', '/outcome'), 'database_unavailable', { outcome })
  })
  const { headers, json } = await until('a connection', async () => {
    const answer = await call('GET', '/outcome')
    return answer.status !== 503 && answer
  })
  t.same([headers.etag, json.offset], [etag, first])
  await call('DELETE', '/outcome')
})

async function withTrigger(statement: string, work: () => Promise<void>): Promise<void> {
  await sql`CREATE FUNCTION sluice.fail() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    AS ${sql.lit(`BEGIN ${statement}; RETURN NEW; END`)}`.execute(root)
  await sql`CREATE TRIGGER fail BEFORE INSERT OR UPDATE OR DELETE ON sluice.consumers FOR EACH ROW
    EXECUTE FUNCTION sluice.fail()`.execute(root)
  await work().finally(() => sql`DROP FUNCTION sluice.fail() CASCADE`.execute(root))
}

// The connection breaks while the offset is checked, so nothing was written, although the request is a PUT.
t.test('if the database fails before the change, nothing was written', async (t) => {
  await put('before', first)
  await sql`ALTER TABLE sluice.epochs RENAME TO away`.execute(root)
  await sql`
    CREATE VIEW sluice.epochs AS SELECT * FROM sluice.away WHERE pg_terminate_backend(pg_backend_pid())`.execute(root)
  await sql`GRANT SELECT ON sluice.epochs TO sluice_api`.execute(root)
  for (const offset of [second, 'now'])
    isProblem(t, await put('before', offset, match('*')), 'database_unavailable', { name: offset })
  await sql`DROP VIEW sluice.epochs`.execute(root)
  await sql`ALTER TABLE sluice.away RENAME TO epochs`.execute(root)
  const { json } = await until('a connection', async () => {
    const answer = await call('GET', '/before')
    return answer.status !== 503 && answer
  })
  t.equal(json.offset, first)
  await call('DELETE', '/before')
})

// Requests that waited for the table took all connections of the feed.
t.test(
  'requests that wait for the table of consumers leave a connection to the feed, and end with their clients',
  async (t) => {
    const url = `http://127.0.0.1:${await listen(app)}`
    const keys = await Promise.all(Array.from({ length: 3 }, () => makeKey({ scopes: ['read'] })))
    for (const { token } of keys) t.equal((await call('GET', '', {}, undefined, token)).status, 200)
    await until('the responses before to be taken', () => app.responseMemory.used === 0)
    const lock = await root.startTransaction().execute()
    await sql`LOCK TABLE sluice.consumers`.execute(lock)
    const clients = new AbortController()
    const send = (token: string, method: string) =>
      fetch(`${url}/v1/consumers/waits`, {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(method === 'PUT' && { 'content-type': 'application/json', ...CREATE }),
        },
        ...(method === 'PUT' && { body: '{"offset":"-1"}' }),
        signal: clients.signal,
      }).catch(({ name }) => name)
    const sent = keys.flatMap(({ token }) => ['GET', 'PUT'].map((method) => send(token, method)))
    await until('the requests to wait', () => app.responseMemory.used >= 6 * 10 * 1024)
    t.equal((await server.get('/v1/feed?offset=-1')).status, 200)
    clients.abort()
    t.same(await Promise.all(sent), new Array(6).fill('AbortError'))
    await lock.rollback().execute()
    await until('the requests to end', () => app.responseMemory.used === 0)
    await call('DELETE', '/waits')
  },
)

// Last: this database has a lost history from here on.
t.test('an offset of a lost history is refused', async (t) => {
  const { etag } = (await put('lost', second)).headers
  const position = decodeOffset(second) as Position
  const ahead = encodeOffset({ ...position, epoch: position.epoch + 1000 })
  isProblem(t, await put('lost', ahead, match(etag)), 'offset_ahead')
  const lost = encodeOffset({ ...position, xid: String(BigInt(position.xid) + 1000n) })
  await beginEpoch(root as never, position.epoch)
  await store('after')
  const refused = await put('lost', lost, match(etag))
  isProblem(t, refused, 'offset_ahead')
  t.match(refused.json.detail, /set back to an earlier state/)
  t.match((await put('lost', second, match(etag))).json, { offset: second })
})
