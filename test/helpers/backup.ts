import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { sql } from 'kysely'
import type { Test } from 'tap'
import { prepareHome } from '../../db/embedded/home.ts'
import { ensureDatabase, ensureRoles } from '../../src/postgres/roles.ts'
import { connect } from './connect.ts'
import { openOwnServer } from './own-server.ts'
import type { TestDatabase } from './postgres.ts'
import { missing, skipWithout } from './skipping.ts'

export const script = (name: 'backup' | 'restore' | 'drill'): string =>
  fileURLToPath(new URL(`../../k8s/components/backup/${name}.sh`, import.meta.url))

/** For `skip` of a test: false if backups can run here, otherwise the reason. The embedded server lacks these programs. */
export const withoutBackup = missing('flock') || withoutPostgres18()

/** Creates a folder for backups or for a drill, which the user of a server can enter. It is deleted when `t` ends. */
export async function makeFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-'))
  await chmod(folder, 0o777)
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

export interface Cluster extends TestDatabase {
  /** The environment of the backup's pod. */
  backup: Record<string, string>
  /** The environment of the pod that restores. */
  owner: Record<string, string>
  /** Creates another database on the same server, without a schema. */
  emptyDatabase(t: Test): Promise<Pick<Cluster, 'ownerUrl' | 'owner'>>
  /** The PATH of the server's programs, to start another server, and the user that may run them. */
  programs: { PATH: string; user: { uid?: number; gid?: number } }
  /** Stops the server and deletes its data. */
  lose(): Promise<void>
}

/** Starts a server with the roles and an empty database, like a new cluster before its migration. */
export async function newCluster(t: Test, settings: Record<string, string> = {}): Promise<Cluster> {
  const server = await openOwnServer(t, settings)
  const { binaries, user } = await prepareHome(server.folder)
  let databases = 0
  const root = connect(server.superUrl)
  const password = 'of-the-backup'
  await ensureRoles(root, { sluice_backup: password }).finally(() => root.destroy())
  const backupUrl = Object.assign(new URL(server.superUrl), { username: 'sluice_backup', password }).href
  return {
    ...server,
    name: 'sluice',
    backup: environment(backupUrl),
    owner: environment(server.ownerUrl),
    async emptyDatabase(t) {
      const name = `empty_${++databases}`
      const root = connect(server.superUrl)
      await ensureDatabase(root, name, 'sluice_owner').finally(() => root.destroy())
      t.teardown(async () => {
        const root = connect(server.superUrl)
        await sql`DROP DATABASE ${sql.id(name)} WITH (FORCE)`.execute(root).finally(() => root.destroy())
      })
      const ownerUrl = Object.assign(new URL(server.ownerUrl), { pathname: `/${name}` }).href
      return { ownerUrl, owner: environment(ownerUrl) }
    },
    programs: { PATH: `${dirname(binaries.postgres)}:${process.env.PATH}`, user: user ?? {} },
    async lose() {
      await server.release()
      await rm(server.folder, { recursive: true, force: true })
    },
  }
}

interface ScriptResult {
  code: number
  /** The log lines, parsed: the lines of the output that are JSON objects. */
  logs: Record<string, unknown>[]
  output: string
}

/** Runs a script of the backup component to its end. */
export async function runScript(
  name: Parameters<typeof script>[0],
  env: Record<string, string>,
  { args = [], user = {} }: { args?: string[]; user?: { uid?: number; gid?: number } } = {},
): Promise<ScriptResult> {
  const child = spawn('bash', [script(name), ...args], {
    cwd: '/',
    env: { PATH: process.env.PATH ?? '', KEEP: '3', KEEP_DAYS: '30', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...user,
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text
    })
  }
  const [code] = await once(child, 'close')
  const logs = output
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
  return { code, logs, output }
}

// As in the pods, the password is not in the URL, because `ps` shows it.
function environment(url: string): Record<string, string> {
  const { password } = new URL(url)
  return { DATABASE_URL: Object.assign(new URL(url), { password: '' }).href, PGPASSWORD: password }
}

function withoutPostgres18(): string | false {
  const { stdout } = spawnSync('pg_dump', ['--version'], { encoding: 'utf8' })
  return skipWithout('pg_dump of PostgreSQL 18', / 18\./.test(stdout ?? ''))
}
