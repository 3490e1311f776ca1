import { readFile } from 'node:fs/promises'
import type { Logger } from 'pino'
import { loadConfig } from '../config.ts'
import { selectConsumers } from '../data/consumers.ts'
import { recordJobRun } from '../data/jobs.ts'
import { beginRetention, selectRights } from '../data/maintenance.ts'
import { vacuumRecords } from '../data/vacuum.ts'
import { printable } from '../lib/printable.ts'
import { awaitDatabase } from '../postgres/await-database.ts'
import { connect } from '../postgres/connect.ts'
import { classifyFailure } from '../postgres/sqlstate.ts'
import type { Database } from '../postgres/tables.ts'
import { DeletedTotals, retain } from '../retention/apply-policies.ts'
import { type Policy, parsePolicies } from '../retention/policies.ts'
import { openCommandLog } from './command-log.ts'
import { openDatabase } from './database.ts'
import { onSignals } from './signals.ts'

interface Options {
  policies?: string
  dryRun: boolean
}

/** A batch takes a fraction of a second. One that takes longer than this is cancelled and tried again with fewer records. */
const STATEMENT_TIMEOUT_MS = 10_000

/**
 * `sluice maintain`: deletes the records that the policies select, and makes their space available for new records. It can be
 * stopped at any time and run again. The exit code is 0 if everything is deleted or another run is active, otherwise 1.
 */
export async function runMaintain({ policies: file, dryRun }: Options): Promise<void> {
  const config = loadConfig()
  const logger = openCommandLog(config.LOG_LEVEL, { isResult: dryRun })
  const policies = await readPolicies(file ?? config.RETENTION_POLICIES)
  if (policies.length === 0) logger.info('there are no policies: nothing is deleted')

  const stop = new AbortController()
  onSignals(
    ['SIGTERM', 'SIGINT'],
    (signal) => {
      logger.info({ signal }, 'ending after the current batch')
      stop.abort(signal)
    },
    () => process.exit(1),
  )
  const database = await openDatabase(config)
  // Two connections: the second one can cancel a VACUUM.
  const db = connect({
    url: database.maintenance,
    name: 'sluice-maintain',
    connections: 2,
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    onError: (err) => logger.warn({ err }, 'a connection to the database broke'),
  })
  try {
    await awaitDatabase(db, config.CONNECT_WAIT_SECONDS, stop.signal)
    const work = { policies, maxSeries: config.ROLLUP_MAX_SERIES, logger, stop: stop.signal }
    await (dryRun ? simulate : maintain)(db, work)
  } finally {
    await db.destroy()
    await database.release()
  }
}

async function readPolicies(file: string | undefined): Promise<Policy[]> {
  if (file === undefined)
    throw new Error(
      'No policy file: specify one with --policies or RETENTION_POLICIES. An example of its content is [{"type":"click","maxAge":"30d"}]',
    )
  return parsePolicies(await readFile(file, 'utf8'), file)
}

interface Work {
  policies: Policy[]
  maxSeries: number
  logger: Logger
  stop: AbortSignal
}

async function simulate(db: Database, { policies, maxSeries, logger, stop }: Work): Promise<void> {
  const removed = new DeletedTotals(policies)
  const whole = await retain(db, policies, {
    dryRun: true,
    stop,
    maxSeries,
    onBatch: (batch) => removed.add(batch),
    onRollups: (policy, rollups) => removed.addRollups(policy, rollups),
  })
  report(removed, policies, logger, true)
  await reportWaiting(db, removed, logger)
  if (!whole) throw new Error(`Interrupted by ${stop.reason}: there may be more records to delete`)
}

async function maintain(db: Database, { policies, maxSeries, logger, stop }: Work): Promise<void> {
  const { role, mayDelete, mayVacuum, mayCount } = await selectRights(db)
  if (!mayDelete)
    throw new Error(`The role ${role} may not delete records: DATABASE_URL must connect as sluice_maintenance`)
  if ((maxSeries > 0 || policies.some(({ rollups }) => rollups !== undefined)) && !mayCount)
    throw new Error(
      `The role ${role} may not update the rollups, which count records before they are deleted. "sluice migrate" grants that to sluice_maintenance. ROLLUP_MAX_SERIES=0, and no policy with "rollups", leave them alone`,
    )
  const begin = performance.now()
  const removed = new DeletedTotals(policies)
  let failure: unknown
  let whole = false
  try {
    const alone = await db.connection().execute(async (session) => {
      if (!(await beginRetention(session))) return false
      try {
        whole = await retain(session, policies, { dryRun: false, stop, maxSeries, onBatch, onRollups })
      } finally {
        report(removed, policies, logger, false)
      }
      await reportWaiting(session, removed, logger)
      if (whole && removed.records > 0) await vacuum(session)
      return true
    })
    if (!alone) return logger.info('another maintenance run holds the lock: nothing to do')
  } catch (error) {
    failure = error
  }
  await record()
  if (failure !== undefined) throw isBroken(failure) ? new Error(BROKEN, { cause: failure }) : failure
  if (!whole) throw new Error(`Interrupted by ${stop.reason}. To continue, run it again`)

  function onRollups(policy: number, rollups: number): void {
    removed.addRollups(policy, rollups)
    logger.debug({ policy, deletedRollups: rollups }, 'processed a batch')
  }

  function onBatch(batch: Parameters<DeletedTotals['add']>[0]): void {
    removed.add(batch)
    logger.debug({ seen: batch.seen, records: batch.records, bytes: batch.bytes }, 'processed a batch')
  }

  async function vacuum(session: Database): Promise<void> {
    if (!mayVacuum)
      return logger.warn(
        'the role may not VACUUM: the space becomes available for new records only after the next autovacuum',
      )
    const done = await vacuumRecords(session, db, stop)
    logger.info(
      done
        ? 'the space of deleted records is available for new ones'
        : 'VACUUM yielded to another session: the rest of the space becomes available after the next VACUUM',
    )
  }

  /** For /metrics. If the database is unavailable, this run is not recorded. */
  async function record(): Promise<void> {
    await recordJobRun(db, {
      job: 'retention',
      succeeded: failure === undefined && whole,
      seconds: (performance.now() - begin) / 1000,
      figures: {},
      totals: { removed_records: removed.records, removed_bytes: removed.bytes },
    }).catch((err) => logger.warn({ err }, 'the result of this run could not be recorded'))
  }
}

const BROKEN = 'The connection to the database broke (the next run continues where this one stopped)'

function isBroken(error: unknown): boolean {
  const failure = classifyFailure(error)
  return failure.kind === 'transient' && failure.unavailable
}

/** Prints a table on a terminal, otherwise logs a line per policy. Then logs the total. */
function report(
  { records, bytes, shares, overtaken }: DeletedTotals,
  policies: Policy[],
  logger: Logger,
  dryRun: boolean,
): void {
  if (process.stdout.isTTY) {
    const rows = shares.map((share, policy) => [
      `${policy} ${printable(JSON.stringify(policies[policy]?.written))}`,
      share,
    ])
    console.table(Object.fromEntries([...rows, ['total', { records, bytes }]]))
  } else {
    for (const [policy, share] of shares.entries())
      logger.info({ policy, ...policies[policy]?.written, ...share }, dryRun ? 'would be deleted' : 'deleted')
  }
  for (const consumer of overtaken)
    logger.warn(
      { consumer },
      dryRun
        ? 'records that this consumer has not read would be deleted'
        : 'records that this consumer has not read were deleted',
    )
  logger.info({ records, bytes }, dryRun ? 'dry run: nothing was deleted' : 'deleted in total')
}

/** Says for which consumer records stay that the policies would delete. If nobody uses it any more, they stay for ever. */
async function reportWaiting(db: Database, { kept }: DeletedTotals, logger: Logger): Promise<void> {
  if (kept === 0) return
  const consumers = await selectConsumers(db)
  const [last] = consumers.sort((one, other) => other.records - one.records || other.seconds - one.seconds)
  // It has caught up or was deleted meanwhile.
  if (last === undefined || last.records === 0) return
  const behind = { records: Math.round(last.records), isExact: last.is_exact, seconds: Math.round(last.seconds) }
  logger.info({ consumer: last.name, behind }, 'records stay until this consumer has read them')
}
