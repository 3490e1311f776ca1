import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { sql } from 'kysely'
import t from 'tap'
import { ensureDatabase } from '../../src/postgres/roles.ts'
import { makeFolder, newCluster, runScript, withoutBackup } from '../helpers/backup.ts'
import { connect } from '../helpers/connect.ts'
import { repository } from '../helpers/kustomize.ts'

// "If the database exists but its content is wrong" in the manual of the backups: its statements, on a real server. The rename failed
// while somebody was still connected.
t.test('a database in use is set aside, and a backup is restored beside it', { skip: withoutBackup }, async (t) => {
  const manual = readFileSync(new URL('k8s/components/backup/README.md', repository), 'utf8')
  const [, statements] = /<<'SQL'\n(.*?)^SQL$/ms.exec(manual) as unknown as [string, string]
  const server = await newCluster(t)
  const BACKUPS = await makeFolder(t)
  const owner = connect(server.ownerUrl)
  await sql`CREATE SCHEMA sluice CREATE TABLE records (received_at timestamptz) CREATE TABLE jobs (job text)`.execute(
    owner,
  )
  t.match(await runScript('backup', { ...server.backup, BACKUPS, CONNECT_WAIT_SECONDS: '0' }), {
    output: /made sluice-/,
  })

  const root = connect(Object.assign(new URL(server.superUrl), { pathname: '/postgres' }).href)
  t.teardown(() => Promise.all([root.destroy(), owner.destroy()]))
  const databases = async () => {
    const { rows } = await sql<{ name: string; open: boolean }>`
      SELECT datname AS name, datallowconn AS open FROM pg_database WHERE datname LIKE 'sluice%' ORDER BY 1`.execute(
      root,
    )
    return rows
  }
  const setAside = () =>
    spawnSync('psql', ['--no-psqlrc', '-v', 'ON_ERROR_STOP=1', new URL('/postgres', server.superUrl).href], {
      input: statements,
      encoding: 'utf8',
    })

  // `owner` is connected, and comes back as soon as it is disconnected.
  const ended = t.rejects(sql`SELECT pg_sleep(600)`.execute(owner), 'the session is ended')
  const first = setAside()
  t.equal(first.status, 0, first.stderr)
  await ended
  t.match(await databases(), [{ name: /^sluice_\d{8}_\d{6}$/, open: true }])

  const second = setAside()
  t.not(second.status, 0, 'there is no database to set aside')
  t.match(second.stderr, /database "sluice" does not exist/)
  t.match(await databases(), { length: 1 })

  await ensureDatabase(root, 'sluice', 'sluice_owner')
  t.match(await runScript('restore', { ...server.owner, BACKUPS }, { args: ['latest'] }), { code: 0 })
  t.match(await databases(), [{ name: 'sluice' }, {}])
})
