import { appendFile, chown, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { ensureCluster } from '../../db/embedded/cluster.ts'
import { type Home, prepareHome } from '../../db/embedded/home.ts'
import { run } from '../../db/embedded/run.ts'
import { findServer, startServer, stopServer } from '../../db/embedded/server.ts'
import { withConnection } from '../../src/commands/database.ts'
import { openPostgres, type Postgres } from './postgres.ts'

/** A PostgreSQL that acknowledges a commit only when its standby has it on disk. */
export interface Replicated extends Postgres {
  standby: Standby
}

/** It follows the primary, and serves reads. */
interface Standby {
  port: number
  apiUrl: string
  /** Resolves when everything that the primary has committed so far can be read here. */
  catchUp(): Promise<void>
  /** Stops replication. The primary still commits, but acknowledges nothing. @returns a function that resumes replication */
  isolate(): Promise<() => void>
  /** Promotes it to a primary. Resolves when it accepts writes. */
  promote(): Promise<void>
  /** Stops it and deletes its files. */
  close(): Promise<void>
}

const PATIENCE_MS = 60_000

/** @param settings for the primary and the standby */
export async function openWithStandby(folder: string, settings: Record<string, string> = {}): Promise<Replicated> {
  // A run that was killed may have left a primary that waits for its standby forever.
  const home = await prepareHome(folder)
  const passwordOf = await ensureCluster(home)
  await stopIfRunning(home, passwordOf('postgres'))

  const postgres = await openPostgres(folder, settings)
  try {
    const standby = await openStandby(postgres, settings)
    const close = () => standby.close().finally(postgres.close)
    return { ...postgres, standby, close }
  } catch (error) {
    await postgres.close()
    throw error
  }
}

/**
 * Starts from a copy of the primary's files. The primary is stopped for the copy, because the embedded package has no pg_basebackup.
 * https://www.postgresql.org/docs/18/warm-standby.html#STREAMING-REPLICATION
 */
async function openStandby(primary: Postgres, settings: Record<string, string>): Promise<Standby> {
  const { cluster, user, binaries } = primary.home
  const { password } = new URL(primary.superUrl)
  // Inside the primary's folder, because that belongs to the user that runs both.
  const home: Home = { ...primary.home, data: join(cluster, 'standby'), log: join(cluster, 'standby.log') }
  await close()

  await primary.stop('fast')
  await runOrThrow('cp', '-R', '-p', primary.home.data, home.data)
  // Not on the command line, where all users of the machine could see the password.
  await appendFile(join(home.data, 'postgresql.auto.conf'), `primary_conninfo = '${primary.superUrl}'\n`)
  const signal = join(home.data, 'standby.signal')
  await writeFile(signal, '')
  if (user) await chown(signal, user.uid, user.gid)
  // On the command line, so that the setting does not outlive this process: the next server on these files has no standby at first.
  await primary.start({ synchronous_standby_names: '*' })
  const failure = await startServer(home, settings)
  if (failure !== undefined) throw new Error(`The standby did not start: ${failure}`)

  const port = (await findServer(home, password)) as number
  const here = (url: string) => Object.assign(new URL(url), { port: String(port) }).href
  return { port, apiUrl: here(primary.apiUrl), catchUp, isolate, promote, close }

  async function catchUp(): Promise<void> {
    const { rows } = await withConnection(primary.superUrl, (db) =>
      sql<{ lsn: string }>`SELECT pg_current_wal_lsn() AS lsn`.execute(db),
    )
    await withConnection(here(primary.superUrl), async (db) => {
      for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline; await sleep(10)) {
        const replayed = sql<{ yes: boolean }>`SELECT pg_last_wal_replay_lsn() >= ${rows[0]?.lsn}::pg_lsn AS yes`
        if ((await replayed.execute(db)).rows[0]?.yes) return
      }
      throw new Error(`The standby did not catch up: see ${home.log}`)
    })
  }

  async function isolate(): Promise<() => void> {
    const { rows } = await withConnection(primary.superUrl, (db) =>
      sql<{ pid: number }>`SELECT pid FROM pg_stat_replication`.execute(db),
    )
    const signal = (name: NodeJS.Signals) => {
      for (const { pid } of rows) process.kill(pid, name)
    }
    signal('SIGSTOP')
    return () => signal('SIGCONT')
  }

  async function promote(): Promise<void> {
    await runOrThrow(binaries.pg_ctl, 'promote', '--wait', '-D', home.data)
  }

  async function close(): Promise<void> {
    await stopIfRunning(home, password)
    await rm(home.data, { recursive: true, force: true })
  }

  async function runOrThrow(command: string, ...args: string[]): Promise<void> {
    const { ok, output } = await run(command, args, user)
    if (!ok) throw new Error(`${command} ${args.join(' ')}: ${output}`)
  }
}

async function stopIfRunning(home: Home, password: string): Promise<void> {
  if ((await findServer(home, password)) !== undefined) await stopServer(home)
}
