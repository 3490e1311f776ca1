import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { sql } from 'kysely'
import { ensureCluster } from '../../../db/embedded/cluster.ts'
import { withConnection } from '../../../src/commands/database.ts'
import type { Postgres } from '../postgres.ts'
import type { Network, Setting } from '../proxy.ts'
import type { Server } from '../server.ts'
import { openStage } from '../stage.ts'
import { type Cutter, openCutter } from './cutter.ts'
import { DELETABLE } from './history.ts'
import type { Random } from './random.ts'

/** The processes of a round: the API, PostgreSQL, and the proxies between them and their clients. */
export interface Scene {
  postgres: Postgres
  /** Two proxies in a row between the API and PostgreSQL, because each can cause faults that the other cannot. */
  network: Network
  database: Cutter
  instances: Instance[]
  /** Makes all sessions of the API reconnect, with this setting or without it. */
  applySetting(setting?: Setting): Promise<void>
  /** Runs `sluice maintain` once. */
  retain(): Promise<void>
  /** Ends all faults. Resolves when everything is available again. */
  heal(): Promise<void>
  close(): Promise<void>
}

/** An instance of the API, which is always started again on the same port, and the proxy between it and its clients. */
export interface Instance {
  port: number
  cutter: Cutter
  kill(downMs: number): Promise<void>
  /** Sends SIGTERM, and starts another process on the same port. @returns the exit code */
  replace(): Promise<number | string>
  freeze(milliseconds: number): Promise<void>
}

const MAIN = fileURLToPath(new URL('../../../src/main.ts', import.meta.url))
const INSTANCES = 2
/** More than CLOSE_SECONDS, because the machine may be busy. */
const MAX_END_MS = 60_000
const POLICIES = [
  { sourcePrefix: DELETABLE, maxAge: '1s' },
  { sourcePrefix: DELETABLE, maxCount: 10 },
]

interface SceneOptions {
  postgres: Postgres
  folder: string
  random: Random
  holdSeconds: number
  /** If it aborts, starting an instance is not retried. */
  stop: AbortSignal
}

export async function openScene({ postgres, folder, random, holdSeconds, stop }: SceneOptions): Promise<Scene> {
  const database = await openCutter(Number(new URL(postgres.apiUrl).port))
  const apiUrl = Object.assign(new URL(postgres.apiUrl), { port: String(database.port) }).href
  const env = {
    OUTAGE_HOLD_SECONDS: String(holdSeconds),
    DRAIN_SECONDS: '0',
    FLUSH_MAX_ROWS: String(random.pick([20, 2000, 2000])),
    FLUSH_CONCURRENCY: String(random.pick([1, 2, 2, 4])),
    // Shedding is off, because other load on the machine must not affect the result.
    ...{ SHED_INGEST_SECONDS: '60', SHED_READ_SECONDS: '60', LOG_LEVEL: 'warn' },
  }
  const stage = await openStage({ postgres: { ...postgres, apiUrl }, folder, env, instances: INSTANCES })
  const policies = join(folder, 'policies.json')
  await writeFile(policies, JSON.stringify(POLICIES))
  const instances = await Promise.all([...stage.servers].map(openInstance))
  return { postgres, network: stage.proxy, database, instances, applySetting, retain, heal, close }

  async function openInstance(first: Server): Promise<Instance> {
    const cutter = await openCutter(first.port)
    let server = first
    const end = async (signal: NodeJS.Signals, downMs: number) => {
      server.signal(signal)
      const late = sleep(MAX_END_MS, `still running after ${MAX_END_MS} ms`, { ref: false })
      const code = await Promise.race([server.exit, late])
      server.signal('SIGKILL')
      await server.exit
      await sleep(downMs)
      server = await startAgain(first.port)
      return code
    }
    return {
      port: first.port,
      cutter,
      kill: async (downMs) => void (await end('SIGKILL', downMs)),
      replace: () => end('SIGTERM', 0),
      async freeze(milliseconds) {
        server.signal('SIGSTOP')
        await sleep(milliseconds)
        server.signal('SIGCONT')
      },
    }
  }

  /** Retries, because an instance does not become ready while PostgreSQL is unavailable. */
  async function startAgain(port: number): Promise<Server> {
    for (let failures = 0; ; failures++) {
      try {
        return await stage.start(port)
      } catch (error) {
        if (failures === 3 || stop.aborted) throw error
      }
    }
  }

  async function applySetting(setting?: Setting): Promise<void> {
    // Not with ALTER ROLE, because the settings that a session makes take precedence over those of its role.
    stage.proxy.applySetting(setting)
    await withConnection(postgres.superUrl, (db) =>
      sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sluice_api'`.execute(db),
    )
  }

  async function retain(): Promise<void> {
    const passwordOf = await ensureCluster(postgres.home)
    const user = { username: 'sluice_maintenance', password: passwordOf('sluice_maintenance') }
    const url = Object.assign(new URL(postgres.superUrl), user).href
    const log = openSync(join(folder, 'maintain.log'), 'a')
    const child = spawn(process.execPath, [MAIN, 'maintain', '--policies', policies], {
      env: { PATH: process.env.PATH ?? '', DATABASE_URL: url },
      stdio: ['ignore', log, log],
    })
    closeSync(log)
    await once(child, 'exit')
  }

  async function heal(): Promise<void> {
    await postgres.thaw().catch(() => {})
    await postgres.start()
    stage.proxy.heal()
    stage.proxy.delay(0)
    // Connections that lost bytes are still open on both sides, but dead.
    database.cutAll()
    await applySetting()
  }

  async function close(): Promise<void> {
    for (const { cutter } of instances) cutter.close()
    await stage.close()
    database.close()
  }
}
