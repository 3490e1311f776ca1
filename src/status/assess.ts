import type { JobName } from '../data/jobs.ts'
import { UNSAFE_SETTINGS } from '../data/unsafe-settings.ts'
import { duration } from '../lib/duration.ts'
import type { Finding, StatusDocument } from '../schemas/status.ts'

/** All but the judgement, with all consumers. */
export type Facts = Omit<StatusDocument, 'health' | 'findings' | 'consumerCount'>

const MINUTE = 60
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** The same limits as in k8s/components/monitoring/alerts.yaml. */
export const LIMITS = {
  keysSeconds: 30,
  waitSeconds: 5,
  queue: 0.8,
  heldSeconds: MINUTE,
  statisticsSeconds: 5 * MINUTE,
  consumerSeconds: HOUR,
  overtakenSeconds: DAY,
  storage: 0.8,
  nightlySeconds: 26 * HOUR,
  twoNightsSeconds: 50 * HOUR,
}

/** A forecast within this time is a warning. */
const SOON_SECONDS = 7 * DAY
/** A server that has just started has not read everything yet. */
const START_SECONDS = 10
/** How many consumers a finding names. */
const MAX_NAMES = 3

/** What is wrong, the worst first. */
export function assess(facts: Facts): Finding[] {
  const findings = [
    ...database(facts),
    ...storage(facts),
    ...instance(facts),
    ...feed(facts),
    ...consumers(facts),
    ...jobs(facts),
    ...unknown(facts),
  ]
  const rank = ({ level }: Finding) => (level === 'critical' ? 0 : 1)
  return findings.toSorted((one, other) => rank(one) - rank(other))
}

const critical = (code: string, detail: string): Finding => ({ level: 'critical', code, detail })
const warning = (code: string, detail: string): Finding => ({ level: 'warning', code, detail })

/** @returns the finding in a list, or an empty list */
const when = (isTrue: boolean, make: () => Finding): Finding[] => (isTrue ? [make()] : [])

const secondsSince = (at: string, time: string) => (Date.parse(at) - Date.parse(time)) / 1000

function database({ database: { outageSeconds, keysAgeSeconds, unsafeSettings } }: Facts): Finding[] {
  return [
    ...when(outageSeconds > 0, () =>
      critical(
        'database_unavailable',
        `The database has been unavailable for ${duration(outageSeconds)}. Requests wait for it, and then get 503. The log of this instance and that of PostgreSQL say why.`,
      ),
    ),
    ...when(outageSeconds === 0 && keysAgeSeconds > LIMITS.keysSeconds, () =>
      critical(
        'keys_old',
        `The API keys could not be read for ${duration(keysAgeSeconds)}: the database is unavailable, or they are locked. Meanwhile, revoked keys still work. The log says why.`,
      ),
    ),
    ...(unsafeSettings ?? []).map((setting) =>
      critical('unsafe_setting', `${setting}: ${UNSAFE_SETTINGS[setting as keyof typeof UNSAFE_SETTINGS]}.`),
    ),
  ]
}

function storage({ storage, at }: Facts): Finding[] {
  if (storage === null) return []
  const { usedBytes, budgetBytes, full, fullAt, growth } = storage
  const share = (usedBytes ?? 0) / budgetBytes
  const advice = 'Delete records with a retention policy, or raise STORAGE_BUDGET and grow the volume'
  if (full) return [critical('storage_full', `Records are refused with 507: the storage budget is used up. ${advice}.`)]
  if (share >= LIMITS.storage) {
    const percent = `${Math.floor(share * 100)} %`
    return [
      warning(
        'storage_nearly_full',
        `${percent} of the storage budget is used. At 90 %, records are refused with 507. ${advice}.`,
      ),
    ]
  }
  const left = fullAt === null ? Number.POSITIVE_INFINITY : -secondsSince(at, fullAt)
  return when(left <= SOON_SECONDS, () =>
    warning(
      'storage_full_soon',
      `In ${duration(left)}, records will be refused with 507, if the database grows as it did in the last ${growth}. ${advice}.`,
    ),
  )
}

function instance({ instance }: Facts): Finding[] {
  const { ready, readiness, overloaded, oldestWaitingSeconds, queueBytes, queueMaxBytes } = instance
  const share = queueBytes / queueMaxBytes
  return [
    ...when(!ready, () => warning('not_ready', `This instance is not ready: ${readiness}.`)),
    ...when(overloaded, () =>
      critical(
        'overloaded',
        'This instance has more work than it can do, and refuses requests with 503. Add instances, or give it more processor time.',
      ),
    ),
    ...when(oldestWaitingSeconds > LIMITS.waitSeconds, () =>
      warning(
        'records_wait',
        `A record has waited ${duration(oldestWaitingSeconds)} for its commit. The disk may be slow, or a lock may be held.`,
      ),
    ),
    ...when(share > LIMITS.queue, () =>
      warning(
        'queue_nearly_full',
        `Waiting requests use ${Math.floor(share * 100)} % of QUEUE_MAX_BYTES. At 100 %, requests get 503.`,
      ),
    ),
  ]
}

function feed({ feed: { heldSeconds }, statistics }: Facts): Finding[] {
  const [held, lag] = [heldSeconds ?? 0, statistics?.lagSeconds ?? 0]
  return [
    ...when(held > LIMITS.heldSeconds, () =>
      warning(
        'feed_held',
        `A transaction has been open for ${duration(held)}, and the feed shows nothing after it. The log says whose it is.`,
      ),
    ),
    ...when(lag > LIMITS.statisticsSeconds, () =>
      warning('statistics_behind', `The statistics lack the records of the last ${duration(lag)}. The log says why.`),
    ),
  ]
}

function consumers({ consumers, at }: Facts): Finding[] {
  const overtaken = (consumers ?? []).filter(
    ({ overtakenAt }) => overtakenAt !== null && secondsSince(at, overtakenAt) < LIMITS.overtakenSeconds,
  )
  const behind = (consumers ?? []).filter(({ seconds }) => seconds > LIMITS.consumerSeconds)
  return [
    ...when(overtaken.length > 0, () =>
      critical(
        'consumer_overtaken',
        `Retention has deleted records that were not read by ${names(overtaken)}. A backup from before still has them.`,
      ),
    ),
    ...when(behind.length > 0, () =>
      warning(
        'consumer_behind',
        `Records that are more than ${duration(LIMITS.consumerSeconds)} old were not read by ${names(behind)}. Start what is stopped, and delete consumers that nobody uses.`,
      ),
    ),
  ]
}

function names(consumers: readonly { name: string }[]): string {
  const first = consumers.slice(0, MAX_NAMES).map(({ name }) => name)
  const more = consumers.length - first.length
  return `${consumers.length === 1 ? 'the consumer' : 'the consumers'} ${first.join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

/** What a job is called, how old its last success may be, and how bad that is. */
const JOBS: Record<JobName, { name: string; maxSeconds: number; failed: Finding['level']; tooOld: Finding['level'] }> =
  {
    backup: { name: 'backup', maxSeconds: LIMITS.nightlySeconds, failed: 'warning', tooOld: 'critical' },
    backup_upload: {
      name: 'upload of a backup',
      maxSeconds: LIMITS.nightlySeconds,
      failed: 'warning',
      tooOld: 'critical',
    },
    restore_drill: {
      name: 'restore drill',
      maxSeconds: LIMITS.twoNightsSeconds,
      failed: 'critical',
      tooOld: 'warning',
    },
    retention: { name: 'run of retention', maxSeconds: LIMITS.twoNightsSeconds, failed: 'warning', tooOld: 'warning' },
  }

function jobs({ jobs, at }: Facts): Finding[] {
  return (jobs ?? []).flatMap(({ job, succeeded, succeededAt }) => {
    // A newer version may have another job.
    if (!(job in JOBS)) return []
    const { name, maxSeconds, failed, tooOld } = JOBS[job as JobName]
    const age = succeededAt === null ? Number.POSITIVE_INFINITY : secondsSince(at, succeededAt)
    const since =
      succeededAt === null ? `No ${name} has succeeded yet` : `The last successful ${name} was ${duration(age)} ago`
    return [
      ...when(!succeeded, () => ({
        level: failed,
        code: `${job}_failed`,
        detail: `The last ${name} failed. Its log says why.`,
      })),
      ...when(age > maxSeconds, () => ({
        level: tooOld,
        code: `${job}_too_old`,
        detail: `${since}. Check that it is scheduled and can run, and run it now.`,
      })),
    ]
  })
}

/** What the database did not say. */
function unknown({ at, instance, instances, database, feed, consumers, jobs }: Facts): Finding[] {
  const parts = { instances, settings: database.unsafeSettings, feed: feed.heldSeconds, consumers, jobs }
  const missing = Object.entries(parts).flatMap(([name, part]) => (part === null ? [name] : []))
  const hasStarted = secondsSince(at, instance.startedAt) > START_SECONDS
  return when(missing.length > 0 && hasStarted && database.available, () =>
    warning(
      'not_known',
      `The database did not respond in time, so the state of these is not known: ${missing.join(', ')}. The log says why.`,
    ),
  )
}
