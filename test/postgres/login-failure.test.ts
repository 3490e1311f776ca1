import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { sql } from 'kysely'
import t from 'tap'
import { connect } from '../../src/postgres/connect.ts'
import { createApp } from '../helpers/app.ts'
import { connect as connectAs } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'

/** The message of a failed login. */
async function failureOf(url: string, setting = 'DATABASE_URL'): Promise<string> {
  const db = connect({ url, setting, name: 'test', connections: 1, statementTimeoutMs: 0, onError: () => {} })
  const failing = sql`SELECT 1`.execute(db).then(
    () => 'it works',
    (error: Error) => error.message,
  )
  return failing.finally(() => db.destroy())
}

t.test('a failed login says what happened and what to do', async (t) => {
  const database = await createDatabase(t)
  const change = (changes: Partial<URL>) => Object.assign(new URL(database.apiUrl), changes).href
  const root = connectAs(database.superUrl)
  t.teardown(() => root.destroy())
  await sql`REVOKE CONNECT ON DATABASE ${sql.id(database.name)} FROM sluice_reader`.execute(root)
  await sql`ALTER DATABASE ${sql.id(database.name)} CONNECTION LIMIT 0`.execute(root)
  // A port on which nothing listens any more.
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))

  for (const [url, message] of [
    [change({ password: 'wrong-secret' }), /"sluice_api"\. Correct the user or the password in DATABASE_URL/],
    [change({ username: 'nobody' }), /"nobody"\. Correct the user or the password/],
    [change({ pathname: '/missing' }), /database "missing" does not exist\. Create the database/],
    [database.apiUrl, /too many connections.*\. Raise max_connections/],
    [change({ port: String(port) }), /ECONNREFUSED 127\.0\.0\.1:\d+\. Start PostgreSQL, or correct the host/],
    [change({ hostname: 'db.invalid' }), /db\.invalid\. (?:Correct the host|Name resolution)/],
    [
      'postgres://x@localhost/x?host=/nowhere',
      /ENOENT \/nowhere\/\.s\.PGSQL\.5432\. Start PostgreSQL, or correct the folder/,
    ],
    [change({ search: 'sslmode=require' }), /does not support SSL/],
  ] as const) {
    const failure = await failureOf(url)
    t.match(failure, /^no connection to PostgreSQL: /)
    t.match(failure, message)
    t.notMatch(failure, 'wrong-secret')
  }
})

t.test('the message names the setting with the wrong value', async (t) => {
  const { apiUrl } = await createDatabase(t)
  const change = (changes: Partial<URL>) => Object.assign(new URL(apiUrl), changes).href
  t.match(
    await failureOf(change({ password: 'wrong-secret' }), 'DATABASE_READ_URL'),
    /\. Correct the user or the password in DATABASE_READ_URL$/,
  )
  t.match(
    await failureOf(change({ pathname: '/missing' }), 'DATABASE_READ_URL'),
    /\. Create the database .*, or correct its name in DATABASE_READ_URL$/,
  )
  const bare = change({ password: '' })
  process.env.PGPASSFILE = '/nowhere'
  t.teardown(() => {
    delete process.env.PGPASSWORD
    delete process.env.PGPASSFILE
  })
  const asksFor =
    /^no connection to PostgreSQL: it asks for a password, and DATABASE_URL has none\. Add it there, in PGPASSWORD or the password file/
  t.match(await failureOf(bare), asksFor)
  process.env.PGPASSWORD = ''
  t.match(await failureOf(bare), asksFor)
  process.env.PGPASSWORD = 'wrong-secret'
  const failure = await failureOf(bare)
  t.match(
    failure,
    /DATABASE_URL has no password, so it comes from PGPASSWORD or the password file \(PGPASSFILE, ~\/\.pgpass\)/,
  )
  t.notMatch(failure, 'wrong-secret')
  t.match(await failureOf(`${bare}?password=wrong`), 'Correct the user or the password in DATABASE_URL')
})

t.test('the connection of a failed login is closed', async (t) => {
  // PostgreSQL would close it as well, but only after a minute. This server never does.
  const server = createServer((socket) => {
    const messages = [...SCRAM]
    socket.on('data', () => socket.write(messages.shift() ?? ''))
  }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const connection = once(server, 'connection')
  const { port } = server.address() as AddressInfo
  t.match(await failureOf(`postgres://sluice_api@127.0.0.1:${port}/sluice?sslmode=disable`), /it asks for a password/)
  const [socket] = await connection
  if (!socket.closed) await once(socket, 'close')
})

/**
 * AuthenticationSASL and AuthenticationSASLContinue, after which the client needs the password:
 * https://www.postgresql.org/docs/18/protocol-message-formats.html
 */
const SCRAM = ['R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0', 'R\0\0\0\x0b\0\0\0\x0br=1']

t.test('a server without its standby logs which URL is wrong', async (t) => {
  const database = await createDatabase(t)
  const url = Object.assign(new URL(database.apiUrl), { password: 'wrong-secret' }).href
  const { app, logs } = await createApp(t, { DATABASE_READ_URL: url }, database)
  await app.ready()
  const line = await until('the line', () => logs.find(({ msg }) => msg === 'lists and exports do not work yet'))
  t.match(line, { err: { message: /Correct the user or the password in DATABASE_READ_URL/ } })
})

t.test('a server that waits for its database logs why', async (t) => {
  const database = await createDatabase(t)
  const url = Object.assign(new URL(database.apiUrl), { password: 'wrong-secret' }).href
  const { app, logs } = await createApp(t, { DATABASE_URL: url }, database)
  await app.ready()
  const line = await until('the line', () => logs.find(({ msg }) => /^starting: /.test(String(msg))))
  t.match(line, {
    level: 'warn',
    msg: /password authentication failed .* Correct the user or the password in DATABASE_URL/,
  })
  t.notMatch(JSON.stringify(logs), 'wrong-secret')
  const { statusCode, body } = await app.inject('/readyz')
  t.equal(statusCode, 503)
  t.notMatch(body, 'password', 'the response is public')
})
