import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { type Home, prepareHome } from '../../db/embedded/home.ts'
import { openEmbedded } from '../../db/embedded/index.ts'
import { run } from '../../db/embedded/run.ts'
import { findServer, startServer } from '../../db/embedded/server.ts'
import { issueKey } from '../../src/access/manage-keys.ts'
import { withConnection } from '../../src/commands/database.ts'
import { migrate } from '../../src/postgres/migrate.ts'
import { provision } from '../../src/postgres/roles.ts'

/** A PostgreSQL for faults. It keeps its port when it restarts. */
export interface Postgres {
  superUrl: string
  apiUrl: string
  /** An API key that may ingest and read. */
  key: string
  /** The folder of its files, and the user that runs it. */
  home: Home
  /** Kills all its processes with SIGKILL, like a container that is killed. */
  kill(): Promise<void>
  /**
   * Starts it if it does not run. Resolves when it accepts connections, which is after recovery.
   * @param more settings that apply until it is stopped
   */
  start(more?: Record<string, string>): Promise<void>
  /** fast: closes all connections; immediate: like a crash. Resolves when it has ended. */
  stop(mode: 'fast' | 'immediate'): Promise<void>
  restart(mode: 'fast' | 'immediate'): Promise<void>
  /** Sends SIGSTOP to all its processes. */
  freeze(): Promise<void>
  /** Sends SIGCONT to all its processes. */
  thaw(): Promise<void>
  close(): Promise<void>
}

/** How long a start may take. The backends of a killed postmaster keep its shared memory in use until they notice its death. */
const PATIENCE_MS = 60_000

/**
 * @param folder created if it does not exist, and kept, so that the next run can use the same cluster
 * @param settings server settings by name; fsync is on by default
 */
export async function openPostgres(folder: string, settings: Record<string, string> = {}): Promise<Postgres> {
  const embedded = await openEmbedded(folder, provision, { settings })
  const { superUrl, ownerUrl, apiUrl } = embedded
  const { port, password } = new URL(superUrl)
  const home = await prepareHome(folder)

  const key = await withConnection(ownerUrl, async (db) => {
    await migrate(db)
    const { token } = await issueKey(db, {
      name: 'durability',
      scopes: ['ingest', 'read'],
      sourcePrefixes: [],
      expiresAt: null,
    })
    await sql`TRUNCATE sluice.records`.execute(db)
    return token
  })
  return { superUrl, apiUrl, key, home, kill, start, stop, restart, freeze, thaw, close }

  async function postmaster(): Promise<number> {
    const pidFile = await readFile(join(home.data, 'postmaster.pid'), 'utf8')
    return Number.parseInt(pidFile, 10)
  }

  async function kill(): Promise<void> {
    await signalAll('SIGKILL')
  }

  async function start(more: Record<string, string> = {}): Promise<void> {
    let failure: string | undefined
    for (const deadline = Date.now() + PATIENCE_MS; Date.now() < deadline; await sleep(50)) {
      // findServer() also removes what a killed postmaster left behind.
      if ((await findServer(home, decodeURIComponent(password))) !== undefined) return
      failure = await startServer(home, { ...settings, ...more, port })
    }
    throw new Error(`PostgreSQL did not start again: ${failure}`)
  }

  async function stop(mode: string): Promise<void> {
    await control('stop', `--mode=${mode}`)
  }

  async function restart(mode: string): Promise<void> {
    await control('restart', `--mode=${mode}`, '-l', home.log)
  }

  async function control(...args: string[]): Promise<void> {
    const { ok, output } = await run(home.binaries.pg_ctl, [...args, '--wait', '-D', home.data], home.user)
    if (!ok) throw new Error(`pg_ctl ${args.join(' ')}: ${output}`)
  }

  async function freeze(): Promise<void> {
    await signalAll('SIGSTOP')
  }

  async function thaw(): Promise<void> {
    await signalAll('SIGCONT')
  }

  async function signalAll(name: NodeJS.Signals): Promise<void> {
    const pid = await postmaster()
    // A stopped postmaster starts no children and reaps none, so the list of children below is complete.
    process.kill(pid, 'SIGSTOP')
    for (const child of await childrenOf(pid)) signal(child, name)
    process.kill(pid, name)
  }

  async function close(): Promise<void> {
    await thaw().catch(() => {})
    // release() counts the users of the server in the server itself, so it must run.
    await start()
    await embedded.release()
  }
}

async function childrenOf(pid: number): Promise<number[]> {
  const pairs = process.platform === 'linux' ? await parentsFromProc() : await parentsFromPs()
  return pairs.flatMap(([child, parent]) => (parent === pid ? [child] : []))
}

type Pair = [pid: number, parent: number]

/** proc_pid_stat(5): pid, name in parentheses, state, parent. Reads /proc, because minimal images have no ps. */
async function parentsFromProc(): Promise<Pair[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const stats = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')))
  return stats.map((stat, at) => [Number(pids[at]), Number(stat.slice(stat.lastIndexOf(')')).split(' ')[2])])
}

async function parentsFromPs(): Promise<Pair[]> {
  const { output } = await run('ps', ['-A', '-o', 'pid=,ppid='])
  return output.split('\n').map((line) => line.trim().split(/\s+/).map(Number) as Pair)
}

/** Sends a signal to a process that may have ended since it was listed. */
function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
