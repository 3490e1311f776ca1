import { sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'

export const JOBS = ['backup', 'backup_upload', 'restore_drill', 'retention'] as const
export type JobName = (typeof JOBS)[number]

/** The report of one run of a job. */
interface JobRun {
  job: JobName
  succeeded: boolean
  seconds: number
  /** What this run measured. Replaces the figures of the previous run. */
  figures: Record<string, number>
  /** What this run did. Added to the totals of all previous runs. */
  totals: Record<string, number>
}

export interface JobState {
  job: JobName
  /** Seconds since 1970, as in Prometheus. */
  finishedAt: number
  succeeded: boolean
  /** null: never. */
  succeededAt: number | null
  seconds: number
  figures: Record<string, number>
  totals: Record<string, number>
}

export async function recordJobRun(db: Database, { job, succeeded, seconds, figures, totals }: JobRun): Promise<void> {
  await sql`
    INSERT INTO sluice.jobs AS known (job, finished_at, succeeded, succeeded_at, seconds, figures, totals)
    VALUES (${job}, now(), ${succeeded}, CASE WHEN ${succeeded} THEN now() END, ${seconds},
            ${JSON.stringify(figures)}::jsonb, ${JSON.stringify(totals)}::jsonb)
    ON CONFLICT (job) DO UPDATE SET
      finished_at  = excluded.finished_at,
      succeeded    = excluded.succeeded,
      succeeded_at = coalesce(excluded.succeeded_at, known.succeeded_at),
      seconds      = excluded.seconds,
      figures      = excluded.figures,
      totals       = (
        SELECT coalesce(jsonb_object_agg(name, total), '{}')
        FROM (
          SELECT name, sum(value::numeric) AS total
          FROM (SELECT * FROM jsonb_each_text(known.totals) UNION ALL SELECT * FROM jsonb_each_text(excluded.totals))
            AS entries (name, value)
          GROUP BY name
        ) AS summed
      )
  `.execute(db)
}

/** The last run of each job that has run. */
export async function selectJobs(db: Database): Promise<JobState[]> {
  const { rows } = await sql<Omit<JobState, 'figures' | 'totals'> & { figures: string; totals: string }>`
    SELECT job, extract(epoch FROM finished_at)::double precision AS "finishedAt", succeeded,
           extract(epoch FROM succeeded_at)::double precision AS "succeededAt", seconds, figures, totals
    FROM sluice.jobs ORDER BY job`.execute(db)
  // json arrives as text on these connections: see Tables.
  return rows.map((row) => ({ ...row, figures: JSON.parse(row.figures), totals: JSON.parse(row.totals) }))
}
