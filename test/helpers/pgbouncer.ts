import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import type { Test } from 'tap'
import type { TestDatabase } from './postgres.ts'

const PROGRAM = '/usr/sbin/pgbouncer'

interface Pooler {
  /** The database's URLs through the pooler, over a Unix socket. */
  database: TestDatabase
  /** Ends all connections and starts again, as a restart of the service does. */
  restart(poolMode?: string): Promise<void>
}

/** Runs Debian's PgBouncer between the tests and a database, with the default settings of PgBouncer. It ends with `t`. */
export async function startPgBouncer(t: Test, database: TestDatabase, poolMode: string): Promise<Pooler> {
  const folder = await mkdtemp(join(tmpdir(), 'pgbouncer-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  // PgBouncer refuses to run as root, and then runs as `nobody`.
  await chmod(folder, 0o777)
  const urls = { superUrl: '', ownerUrl: '', apiUrl: '', maintenanceUrl: '' }
  const users: string[] = []
  for (const name of Object.keys(urls) as (keyof typeof urls)[]) {
    const url = new URL(database[name])
    users.push(`"${url.username}" "${decodeURIComponent(url.password)}"`)
    urls[name] = `postgres://${url.username}:${url.password}@${encodeURIComponent(folder)}:6432${url.pathname}`
  }
  const { hostname, port } = new URL(database.apiUrl)
  const config = (mode: string) => `
    [databases]
    * = host=${hostname} port=${port}
    [pgbouncer]
    pool_mode = ${mode}
    unix_socket_dir = ${folder}
    listen_port = 6432
    auth_type = scram-sha-256
    auth_file = ${join(folder, 'users.txt')}`
  await writeFile(join(folder, 'users.txt'), users.join('\n'))

  let child: ChildProcess | undefined
  async function start(mode: string): Promise<void> {
    await writeFile(join(folder, 'pgbouncer.ini'), config(mode).replaceAll(/^ +/gm, ''))
    const asNobody = process.getuid?.() === 0 ? ['-u', 'nobody'] : []
    child = spawn(PROGRAM, [...asNobody, join(folder, 'pgbouncer.ini')], { stdio: ['ignore', 'ignore', 'pipe'] })
    const lines: string[] = []
    for await (const line of createInterface({ input: child.stderr as Readable })) {
      lines.push(line)
      if (line.includes('process up')) {
        // Otherwise its log would fill the pipe.
        child.stderr?.resume()
        return
      }
    }
    throw new Error(`PgBouncer does not start: ${lines.join('\n')}`)
  }
  async function stop(): Promise<void> {
    const ending = child
    if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return
    ending.kill('SIGTERM')
    await once(ending, 'exit')
  }
  await start(poolMode)
  t.teardown(stop)
  return {
    database: { name: database.name, ...urls },
    async restart(mode = poolMode) {
      await stop()
      await start(mode)
    },
  }
}
