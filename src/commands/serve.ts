import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { Logger } from 'pino'
import { buildApp } from '../app.ts'
import { type Config, loadConfig } from '../config.ts'
import { explain } from '../lib/explain.ts'
import { keyFileOf } from '../lib/local-folder.ts'
import { exit } from '../logger.ts'
import { migrate } from '../postgres/migrate.ts'
import { type DatabaseUrls, openDatabase, withConnection } from './database.ts'
import { ensureFirstKey } from './first-key.ts'
import { onSignals } from './signals.ts'

/** `sluice serve`: the API. With `--migrate` it first brings the schema up to date and makes sure that there is a key. */
export async function runServe(logger: Logger, options: { migrate: boolean }): Promise<void> {
  const stop = stopOnSignal(logger)
  try {
    const config = loadConfig()
    logger.level = config.LOG_LEVEL
    await serve(config, logger, stop, options)
  } catch (error) {
    logger.fatal(explain(error))
    exit(logger, 1)
  }
}

async function serve(config: Config, logger: Logger, stop: Stop, options: { migrate: boolean }): Promise<void> {
  const database = await openDatabase(config)
  try {
    const key = options.migrate ? await prepare(config, logger, database) : undefined
    const app = await buildApp({ ...config, DATABASE_URL: database.api }, logger)
    app.unsupportedDatabase.then((error) => {
      logger.fatal(explain(error))
      exit(logger, 1)
    })
    await listen(app, config)
    stop.run = (signal) => drain(app, database, signal === 'SIGTERM' ? config.DRAIN_SECONDS : 0)
    if (key !== undefined) process.stderr.write(`\n${firstSteps(app, key)}\n\n`)
  } catch (error) {
    await database.release()
    throw error
  }
}

async function prepare(config: Config, logger: Logger, database: DatabaseUrls): Promise<string> {
  return withConnection(database.owner, async (db) => {
    const migrations = await migrate(db)
    if (migrations.length > 0) logger.info({ migrations }, 'migrated')
    const file = keyFileOf(config.DATABASE_URL)
    return ensureFirstKey(db, config, { embedded: database.embedded, file, warn: (text) => logger.warn(text) })
  })
}

/** Metrics first, so that they are available while the API waits for something. */
async function listen(app: FastifyInstance, { HOST: host, PORT, METRICS_PORT }: Config): Promise<void> {
  const describe = (address: string) => `Metrics at ${address}/metrics`
  await app.metricsServer.listenOn(host, METRICS_PORT, describe).catch((error) => {
    // The program that uses this port probably uses the other one as well.
    const others = `other ports: PORT=${PORT + 1} METRICS_PORT=${METRICS_PORT + 1}`
    throw new Error(listenProblem(error, host, 'METRICS_PORT', METRICS_PORT, others), { cause: undefined })
  })
  await app.listenOn(host, PORT).catch((error) => {
    throw new Error(listenProblem(error, host, 'PORT', PORT, `another port: PORT=${PORT + 1}`), { cause: undefined })
  })
}

function listenProblem(error: NodeJS.ErrnoException, host: string, name: string, port: number, others: string): string {
  if (error.code === 'EADDRINUSE') {
    return `Port ${port} on ${host} is in use, perhaps by another sluice. Stop that one, or choose ${others} npm start.`
  }
  if (error.code === 'EACCES') {
    return `Port ${port} needs root or the capability CAP_NET_BIND_SERVICE. Choose a port above 1023, such as ${name}=${port + 3000}, behind a reverse proxy.`
  }
  if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND')
    return `This machine has no address ${host}. Set HOST to one that it has: 127.0.0.1 for this machine only, or 0.0.0.0 for all networks.`
  return `Cannot listen on HOST ${host}, ${name} ${port}: ${error.message}.`
}

/** A command to copy that stores a record, and where to look at it. It goes to stderr, because stdout is the log. */
function firstSteps(app: FastifyInstance, key: string): string {
  const [address] = app.addresses() as AddressInfo[]
  const host = address?.family === 'IPv6' ? `[${address.address}]` : (address?.address ?? '')
  const url = `http://${host.replace('0.0.0.0', '127.0.0.1').replace('[::]', '[::1]')}:${address?.port}${app.pathPrefix}`
  const record = '{"source":"shop","type":"order.placed","data":{"total":12.50}}'
  const post = `curl -sS ${url}/v1/records -H "Authorization: Bearer ${key}" -H 'Content-Type: application/json' -d '${record}'`
  return `${post}\n\nTo see what is stored, open ${url}/console/ and enter the key: echo "${key}"`
}

/** What must be done before the process may end. Until the server listens, nothing. */
interface Stop {
  run(signal: NodeJS.Signals): Promise<void>
}

/**
 * SIGTERM: /readyz returns 503, but requests are still served until every proxy has noticed (DRAIN_SECONDS). Then the server
 * stops listening, writes the waiting records and answers the current requests. SIGINT does the same without the wait. A second
 * signal ends the process at once: nothing was promised for requests without a response.
 */
function stopOnSignal(logger: Logger): Stop {
  const stop: Stop = { run: async () => {} }
  onSignals(
    ['SIGTERM', 'SIGINT'],
    (signal) => {
      logger.info({ signal }, 'draining')
      stop.run(signal).then(
        () => {
          logger.info('stopped')
          exit(logger, 0)
        },
        (err) => {
          logger.fatal({ err }, 'could not stop cleanly')
          exit(logger, 1)
        },
      )
    },
    (signal) => {
      logger.warn({ signal }, 'second signal: the process ends at once')
      exit(logger, 1)
    },
  )
  return stop
}

async function drain(app: FastifyInstance, database: DatabaseUrls, seconds: number): Promise<void> {
  app.drain()
  // From now on, responses have "Connection: close". So clients disconnect one by one, each between two of its requests, and no
  // client has just sent a request when the remaining connections are closed. (Node.js serves one more request per connection.)
  app.server.maxRequestsPerSocket = 1
  await sleep(seconds * 1000)
  await app.close()
  await database.release()
}
