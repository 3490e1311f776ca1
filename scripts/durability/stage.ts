import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { miscounted } from './counted.ts'
import type { Postgres } from './postgres.ts'
import { type Network, openNetwork } from './proxy.ts'
import type { Reader } from './reader.ts'
import { rowsOf } from './rows.ts'
import { freePort, isReady, type Server, startServer } from './server.ts'
import type { Stored } from './stored.ts'
import type { Writers } from './writers.ts'

/** The processes under load that a fault affects. */
export interface Stage {
  postgres: Postgres
  /** Between the API and PostgreSQL. */
  proxy: Network
  writers: Writers
  /** Follows the records of this run from the first one on. */
  reader: Reader
  /** The running instances of the API. */
  servers: Server[]
  /** Starts another instance, on the given port or on a free one. Resolves when it is ready. */
  startServer(port?: number): Promise<Server>
  /** A fault calls this when it is over. Resolves at the next acknowledgement, and measures the time until then. */
  resumed(): Promise<void>
}

interface StageOptions {
  postgres: Postgres
  /** For logs. */
  folder: string
  /** Settings of the API. */
  env: Record<string, string>
  /** Number of instances. */
  instances: number
}

/** Interval between readiness probes. */
const PROBE_MS = 100

/** Starts the network and the API, and routes new connections like a Service. The writers start later. */
export async function openStage({ postgres, folder, env, instances }: StageOptions) {
  await mkdir(folder, { recursive: true })
  const { hostname, port } = new URL(postgres.apiUrl)
  const proxy = await openNetwork({ host: hostname, port: Number(port) })
  const through = (url: string) => Object.assign(new URL(url), { port: String(proxy.port) }).href
  const servers: Server[] = []
  const ready = new Set<number>()
  const over = new AbortController()
  const probing = probe()
  let routed = 0
  try {
    for (let count = 0; count < instances; count++) await start()
  } catch (error) {
    await close()
    throw error
  }
  return { proxy, servers, start, route, rows, countFault, close }

  async function start(at?: number): Promise<Server> {
    const log = join(folder, 'api.log')
    const server = await startServer({
      port: at ?? (await freePort()),
      log,
      env: { DATABASE_URL: through(postgres.apiUrl), ...env },
    })
    servers.push(server)
    ready.add(server.port)
    void server.exit.then(() => servers.splice(servers.indexOf(server), 1))
    return server
  }

  /** Like a Service, chooses the ready instances in turn. If none is ready, it chooses among all. */
  function route(): number {
    const known = ready.size > 0 ? [...ready] : servers.map(({ port }) => port)
    return known[routed++ % known.length] ?? 1
  }

  async function probe(): Promise<void> {
    for (; !over.signal.aborted; await sleep(PROBE_MS)) {
      await Promise.all(
        servers.map(async ({ port }) => {
          if (await isReady(port)) ready.add(port)
          else ready.delete(port)
        }),
      )
      for (const port of ready) if (!servers.some((server) => server.port === port)) ready.delete(port)
    }
  }

  /** Reads the stored records of a run from the PostgreSQL to which the network currently connects. */
  function rows(source: string): Promise<Stored[]> {
    return rowsOf(through(postgres.superUrl), source)
  }

  /** By how many records of a run the rollups are wrong, in the same PostgreSQL. */
  function countFault(source: string): Promise<number> {
    return miscounted(through(postgres.superUrl), source)
  }

  async function close(): Promise<void> {
    over.abort()
    await probing
    await Promise.all(
      servers.map(async (server) => {
        server.signal('SIGKILL')
        await server.exit
      }),
    )
    proxy.close()
  }
}
