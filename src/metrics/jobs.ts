import type { Registry } from 'prom-client'
import { JOBS, type JobName, type JobState } from '../data/jobs.ts'
import { readCounter, readGauge } from './read.ts'

/** A scrape waits so long for the database at most; then what was known before has to do. */
const PATIENCE_MS = 500

/** Of one job: which of its numbers, under which name. A job's own numbers are named in data/jobs.ts's users. */
const NUMBERS: { job: JobName; of: 'figures' | 'totals'; key: string; name: string; help: string }[] = [
  {
    job: 'backup',
    of: 'figures',
    key: 'bytes',
    name: 'sluice_backup_size_bytes',
    help: 'Size of the last backup.',
  },
  { job: 'backup', of: 'figures', key: 'kept', name: 'sluice_backup_kept', help: 'Backups that are kept.' },
  {
    job: 'restore_drill',
    of: 'figures',
    key: 'backup_age_seconds',
    name: 'sluice_restore_drill_backup_age_seconds',
    help: 'How old the backup was that was last restored for practice, then.',
  },
  {
    job: 'restore_drill',
    of: 'figures',
    key: 'records',
    name: 'sluice_restore_drill_records',
    help: 'Records in it.',
  },
  {
    job: 'retention',
    of: 'totals',
    key: 'removed_records',
    name: 'sluice_retention_removed_records_total',
    help: 'Records that retention has removed.',
  },
  {
    job: 'retention',
    of: 'totals',
    key: 'removed_bytes',
    name: 'sluice_retention_removed_bytes_total',
    help: 'Payload that retention has removed.',
  },
]

/**
 * The jobs that run beside the API, from what they left in the database: their pods are gone when Prometheus comes. Every
 * instance tells the same, so these are to be joined with max, not with sum.
 */
export function tellJobs(registry: Registry, select: () => Promise<JobState[]>): void {
  const latest = latestOf(select)
  const perJob = (name: string, help: string, value: (job: JobState) => number | null) =>
    readGauge(registry, {
      name,
      help: `${help} By job: ${JOBS.join(', ')}.`,
      labelNames: ['job_name'],
      read: async () =>
        (await latest()).flatMap((job) => {
          const found = value(job)
          return found === null ? [] : [[{ job_name: job.job }, found] as const]
        }),
    })

  perJob('sluice_job_last_run_timestamp_seconds', 'When it last ended.', ({ finishedAt }) => finishedAt)
  perJob('sluice_job_last_success_timestamp_seconds', 'When it last ended well.', ({ succeededAt }) => succeededAt)
  perJob('sluice_job_last_run_succeeded', 'Did the last run end well?', ({ succeeded }) => (succeeded ? 1 : 0))
  perJob('sluice_job_last_run_duration_seconds', 'How long the last run took.', ({ seconds }) => seconds)

  for (const { job, of, key, name, help } of NUMBERS) {
    const add = of === 'totals' ? readCounter : readGauge
    add(registry, {
      name,
      help,
      read: async () => {
        const value = (await latest()).find((state) => state.job === job)?.[of][key]
        return value === undefined ? [] : [[{}, value]]
      },
    })
  }
}

/** One query at a time, which all who ask meanwhile share. Fails quietly: others tell that the database is away. */
function latestOf(select: () => Promise<JobState[]>): () => Promise<JobState[]> {
  let known: JobState[] = []
  let reading: Promise<void> | undefined
  return async () => {
    reading ??= select()
      .then(
        (jobs) => {
          known = jobs
        },
        () => {},
      )
      .finally(() => {
        reading = undefined
      })
    const { promise: tired, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, PATIENCE_MS)
    await Promise.race([reading, tired])
    clearTimeout(timer)
    return known
  }
}
