-- What the jobs that run beside the API did last: backups, restore drills, retention. Their pods have ended when somebody
-- looks; the API's /metrics tells of them from here. A row a job, so that it never grows.
CREATE TABLE sluice.jobs (
  job          text             COLLATE "C" CONSTRAINT jobs_pkey PRIMARY KEY,
  finished_at  timestamptz      NOT NULL,
  succeeded    boolean          NOT NULL,
  -- When it last ended well. NULL: never.
  succeeded_at timestamptz,
  seconds      double precision NOT NULL,
  -- What the last run measured, by name: bytes, counts. Numbers only.
  figures      jsonb            NOT NULL DEFAULT '{}',
  -- What all runs did together, by name, for counters: each run adds its own.
  totals       jsonb            NOT NULL DEFAULT '{}',

  CONSTRAINT jobs_job_known   CHECK (job IN ('backup', 'restore_drill', 'retention')),
  CONSTRAINT jobs_figures_map CHECK (jsonb_typeof(figures) = 'object'),
  CONSTRAINT jobs_totals_map  CHECK (jsonb_typeof(totals)  = 'object')
);
