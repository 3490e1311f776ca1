import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Registry } from 'prom-client'
import { JOBS, type JobName, type JobState, selectJobs } from '../data/jobs.ts'
import { latestOf } from './metrics/latest.ts'
import { registerCounter, registerGauge } from './metrics/register.ts'

export default fp(async (app: FastifyInstance) => registerMetrics(app.metrics, () => selectJobs(app.db.read)), {
  name: 'jobs',
  dependencies: ['metrics', 'database'],
})

/** The times of a job's last runs are true for ever, so they are reported during an outage as well. */
const AGES = { pauseMs: 0, maxAgeMs: Number.POSITIVE_INFINITY }

/** Which number of which job is published under which name. `key` is the name that the job itself uses. */
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
    help: 'Age of the backup in the last restore drill, at that time.',
  },
  {
    job: 'restore_drill',
    of: 'figures',
    key: 'records',
    name: 'sluice_restore_drill_records',
    help: 'Records in the backup of the last restore drill.',
  },
  {
    job: 'retention',
    of: 'totals',
    key: 'removed_records',
    name: 'sluice_retention_removed_records_total',
    help: 'Records that retention has deleted.',
  },
  {
    job: 'retention',
    of: 'totals',
    key: 'removed_bytes',
    name: 'sluice_retention_removed_bytes_total',
    help: 'Size of the records that retention has deleted.',
  },
]

/**
 * Metrics of the jobs that run beside the API. The jobs store them in the database, because their pods have ended before
 * Prometheus scrapes them. Every instance reports the same values: aggregate them with max, not with sum.
 */
function registerMetrics(registry: Registry, select: () => Promise<JobState[]>): void {
  const known = latestOf(select, AGES)
  const latest = async () => (await known()) ?? []
  const perJob = (name: string, help: string, value: (job: JobState) => number | null) =>
    registerGauge(registry, {
      name,
      help: `${help} By job: ${JOBS.join(', ')}.`,
      labelNames: ['job_name'],
      read: async () =>
        (await latest()).flatMap((job) => {
          const found = value(job)
          return found === null ? [] : [[{ job_name: job.job }, found] as const]
        }),
    })

  perJob('sluice_job_last_run_timestamp_seconds', 'When the job last ended.', ({ finishedAt }) => finishedAt)
  perJob('sluice_job_last_success_timestamp_seconds', 'When the job last succeeded.', ({ succeededAt }) => succeededAt)
  perJob('sluice_job_last_run_succeeded', '1 if the last run succeeded, otherwise 0.', ({ succeeded }) =>
    succeeded ? 1 : 0,
  )
  perJob('sluice_job_last_run_duration_seconds', 'How long the last run took.', ({ seconds }) => seconds)

  for (const { job, of, key, name, help } of NUMBERS) {
    const add = of === 'totals' ? registerCounter : registerGauge
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
