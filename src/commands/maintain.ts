import { readFile } from 'node:fs/promises'
import type { Logger } from 'pino'
import { loadConfig } from '../config.ts'
import { connect } from '../data/connect.ts'
import { recordJobRun } from '../data/jobs.ts'
import { beginRetention, selectRights } from '../data/maintenance.ts'
import type { Database } from '../data/schema.ts'
import { classifyFailure } from '../data/sqlstate.ts'
import { vacuumRecords } from '../data/vacuum.ts'
import { createLogger } from '../logger.ts'
import { type Policy, parsePolicies } from '../operate/policies.ts'
import { Removed, retain } from '../operate/retention.ts'
import { openDatabase } from './database.ts'
import { onSignals } from './signals.ts'

interface Options {
  policies?: string
  dryRun: boolean
}

/** A batch takes a fraction of a second. One that takes so long is tried again with fewer records. */
const STATEMENT_TIMEOUT_MS = 10_000

/**
 * `sluice maintain`: removes what the policies say, and makes its space free for new records. It may be ended at any time
 * and run again. The exit code is 0 when all is removed, or somebody else is at it; else 1.
 */
export async function runMaintain({ policies: file, dryRun }: Options): Promise<void> {
  const config = loadConfig()
  const logger = createLogger(config.LOG_LEVEL)
  const policies = await readPolicies(file ?? config.RETENTION_POLICIES)
  if (policies.length === 0) logger.info('there are no policies: nothing is removed')

  const stop = new AbortController()
  onSignals(
    ['SIGTERM', 'SIGINT'],
    (signal) => {
      logger.info({ signal }, 'ending after the batch under way')
      stop.abort(signal)
    },
    () => process.exit(1),
  )
  const database = await openDatabase(config)
  // Two: the second is there to end a VACUUM.
  const db = connect({
    url: database.maintenance,
    name: 'sluice-maintain',
    connections: 2,
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    onError: (err) => logger.warn({ err }, 'a connection to the database broke'),
  })
  try {
    await (dryRun ? tryOut : maintain)(db, policies, logger, stop.signal)
  } finally {
    await db.destroy()
    await database.release()
  }
}

async function readPolicies(file: string | undefined): Promise<Policy[]> {
  if (file === undefined)
    throw new Error('There are no policies to go by: name a file with --policies, or with RETENTION_POLICIES')
  return parsePolicies(await readFile(file, 'utf8'), file)
}

async function tryOut(db: Database, policies: Policy[], logger: Logger, stop: AbortSignal): Promise<void> {
  const removed = new Removed(policies)
  const whole = await retain(db, policies, { dryRun: true, stop, onBatch: (batch) => removed.add(batch) })
  tell(removed, policies, logger, true)
  if (!whole) throw new Error(`Interrupted by ${stop.reason}: there may be more`)
}

async function maintain(db: Database, policies: Policy[], logger: Logger, stop: AbortSignal): Promise<void> {
  const { role, mayRemove, mayVacuum } = await selectRights(db)
  if (!mayRemove) throw new Error(`The role ${role} may not remove records: DATABASE_URL must be sluice_maintenance's`)
  const begin = performance.now()
  const removed = new Removed(policies)
  let failure: unknown
  let whole = false
  try {
    const alone = await db.connection().execute(async (session) => {
      if (!(await beginRetention(session))) return false
      try {
        whole = await retain(session, policies, { dryRun: false, stop, onBatch })
      } finally {
        tell(removed, policies, logger, false)
      }
      if (whole && removed.records > 0) await reuse(session)
      return true
    })
    if (!alone) return logger.info('another maintain is at it: nothing is left to do')
  } catch (error) {
    failure = error
  }
  await record()
  if (failure !== undefined) throw isBroken(failure) ? new Error(BROKEN, { cause: failure }) : failure
  if (!whole) throw new Error(`Interrupted by ${stop.reason}. To go on, run it again`)

  function onBatch(batch: Parameters<Removed['add']>[0]): void {
    removed.add(batch)
    logger.debug({ seen: batch.seen, records: batch.records, bytes: batch.bytes }, 'a batch')
  }

  async function reuse(session: Database): Promise<void> {
    if (!mayVacuum)
      return logger.warn('the role may not VACUUM: the space is free for new records after the next autovacuum only')
    const done = await vacuumRecords(session, db, stop)
    logger.info(
      done ? 'its space is free for new records' : 'VACUUM gave way: what is left to it is free after the next',
    )
  }

  /** For /metrics. A database that is away learns nothing of this run. */
  async function record(): Promise<void> {
    await recordJobRun(db, {
      job: 'retention',
      succeeded: failure === undefined && whole,
      seconds: (performance.now() - begin) / 1000,
      figures: {},
      totals: { removed_records: removed.records, removed_bytes: removed.bytes },
    }).catch((err) => logger.warn({ err }, 'how it went could not be kept'))
  }
}

const BROKEN = 'The connection to the database broke, and this run with it. The next one goes on where it ended'

function isBroken(error: unknown): boolean {
  const failure = classifyFailure(error)
  return failure.kind === 'transient' && failure.away
}

/** A table for people; a line for each policy, and one for all together, for everybody else. */
function tell({ records, bytes, shares }: Removed, policies: Policy[], logger: Logger, dryRun: boolean): void {
  if (process.stdout.isTTY) {
    const rows = shares.map((share, policy) => [`${policy} ${JSON.stringify(policies[policy]?.written)}`, share])
    console.table(Object.fromEntries([...rows, ['all together', { records, bytes }]]))
  } else {
    for (const [policy, share] of shares.entries())
      logger.info({ policy, ...policies[policy]?.written, ...share }, dryRun ? 'would be removed' : 'removed')
  }
  logger.info({ records, bytes }, dryRun ? 'dry run: nothing was removed' : 'removed, all together')
}
