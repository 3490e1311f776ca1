import { execFile } from 'node:child_process'
import { chmod, chown, copyFile, stat } from 'node:fs/promises'
import { type AddressInfo, createServer, connect as dial } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { sql } from 'kysely'
import t from 'tap'
import { connect as connectPool } from '../../src/postgres/connect.ts'
import { readRows } from '../../src/postgres/read-rows.ts'
import { connect } from '../helpers/connect.ts'
import { openOwnServer } from '../helpers/own-server.ts'
import { missing } from '../helpers/skipping.ts'
import { until } from '../helpers/until.ts'

/** The message with which a client requests TLS (PostgreSQL manual, 54.7 Message Formats, SSLRequest). */
const SSL_REQUEST = '0000000804d2162f'

const run = promisify(execFile)

t.test('over TLS', { skip: missing('openssl') }, async (t) => {
  const server = await openOwnServer(t)
  const root = connect(server.superUrl)
  t.teardown(() => root.destroy())
  const { rows } = await sql<{ data: string }>`SELECT current_setting('data_directory') AS data`.execute(root)
  const { data } = rows[0] as { data: string }

  const [key, certificate] = [join(data, 'server.key'), join(data, 'server.crt')]
  const kind = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost']
  await run('openssl', [...kind, '-keyout', key, '-out', certificate])
  await chmod(key, 0o600)
  // The folder of the server is readable for its user only.
  const copy = join(t.testdir({}), 'ca.crt')
  await copyFile(certificate, copy)
  const { uid, gid } = await stat(data)
  for (const file of [key, certificate]) await chown(file, uid, gid)
  await sql`ALTER SYSTEM SET ssl = on`.execute(root)
  await sql`SELECT pg_reload_conf()`.execute(root)

  // A cancel request contains the secret of the session.
  await t.test('a statement is cancelled, and the cancel request is encrypted', async (t) => {
    const url = new URL(server.superUrl)
    const firstMessages: string[] = []
    const port = Number(url.port)
    const relay = createServer((client) => {
      client.once('data', (first) => firstMessages.push(first.toString('hex')))
      const onward = dial(port, url.hostname)
      client.on('error', () => onward.destroy()).pipe(onward)
      onward.on('error', () => client.destroy()).pipe(client)
    })
    await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve))
    t.teardown(() => relay.close())
    url.port = String((relay.address() as AddressInfo).port)
    url.searchParams.set('sslmode', 'no-verify')

    const db = connectPool({
      url: url.href,
      name: 'reads',
      connections: 1,
      statementTimeoutMs: 60_000,
      onError: () => {},
    })
    t.teardown(() => db.destroy())
    await until('the server to accept TLS', () =>
      sql`SELECT`.execute(db).then(
        () => true,
        () => false,
      ),
    )

    const running = async () => {
      const { rows } = await sql`
        SELECT FROM pg_stat_activity WHERE application_name = 'reads' AND state = 'active'`.execute(root)
      return rows.length
    }
    const abort = new AbortController()
    const reading = readRows(db, sql`SELECT pg_sleep(50)`, abort.signal, () => {})
    await until('the statement to run', async () => (await running()) === 1)
    const before = firstMessages.length
    abort.abort()
    await t.rejects(reading, { name: 'AbortError' })
    await until('the statement to end', async () => (await running()) === 0)
    t.ok(firstMessages.length > before, 'the cancel request has its own connection')
    t.same([...new Set(firstMessages)], [SSL_REQUEST])
    const { rows: after } = await sql`SELECT 1 AS n`.execute(db)
    t.same(after, [{ n: 1 }], 'the connection is still usable')
  })

  await t.test('sslmode means what it means for psql', async (t) => {
    const isEncrypted = async (parameters: string, host = '127.0.0.1') => {
      const url = Object.assign(new URL(server.superUrl), { search: parameters, hostname: host }).href
      const db = connectPool({ url, name: 'mode', connections: 1, statementTimeoutMs: 0, onError: () => {} })
      const query = sql<{ ssl: boolean }>`SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`
      return query
        .execute(db)
        .then(
          ({ rows }) => rows[0]?.ssl,
          (error: Error) => error.message,
        )
        .finally(() => db.destroy())
    }
    const file = `sslrootcert=${copy}`
    t.equal(await isEncrypted('sslmode=disable'), false)
    t.equal(await isEncrypted('sslmode=require'), true, 'the certificate is not checked')
    t.equal(await isEncrypted(`sslmode=verify-full&${file}`, 'localhost'), true)
    t.equal(await isEncrypted(`sslmode=verify-ca&${file}`), true, 'the host name is not checked')
    t.match(await isEncrypted(`sslmode=verify-full&${file}`), /altnames.* Use the host name of the certificate/)
    t.match(
      await isEncrypted('sslmode=verify-full', 'localhost'),
      /self-signed certificate.*\. Name the file with the certificate/,
    )
  })
})
