import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, connect as dial } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'kysely'
import t from 'tap'
import { openSession } from '../../db/embedded/session.ts'
import { connect } from '../../src/postgres/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

// config.ts adds these variables to the URL. The driver reads them as well, without this check, and also for the embedded server.
t.test('only the URL decides about TLS, and a Unix socket has none', async (t) => {
  const { apiUrl } = await createDatabase(t)
  const { hostname, port } = new URL(apiUrl)
  // A path of a socket may have 107 bytes.
  const folder = await mkdtemp(join(tmpdir(), 'sluice-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const socket = createServer((client) => {
    const onward = dial(Number(port), hostname)
    client.on('error', () => onward.destroy()).pipe(onward)
    onward.on('error', () => client.destroy()).pipe(client)
  })
  await new Promise<void>((resolve) => socket.listen(`${folder}/.s.PGSQL.5432`, resolve))
  t.teardown(() => socket.close())
  const onSocket = new URL(apiUrl)
  onSocket.port = ''
  onSocket.search = `host=${folder}&sslmode=verify-full&sslrootcert=/no/ca.pem`

  const env = { PGSSLMODE: 'require', PGSSLNEGOTIATION: 'direct' }
  Object.assign(process.env, env)
  t.teardown(() => {
    for (const name of Object.keys(env)) delete process.env[name]
  })
  for (const url of [apiUrl, onSocket.href]) {
    const db = connect({ url, name: 'test', connections: 1, statementTimeoutMs: 0, onError: () => {} })
    const { rows } = await sql`SELECT 1 AS one`.execute(db).finally(() => db.destroy())
    t.same(rows, [{ one: 1 }])
  }
  const session = openSession(apiUrl)
  const { rows } = await sql`SELECT 1 AS one`.execute(session).finally(() => session.destroy())
  t.same(rows, [{ one: 1 }])
})
