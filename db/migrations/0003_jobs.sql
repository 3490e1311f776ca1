-- The last runs of the jobs beside the API: backups, restore drills, retention. Their pods end before Prometheus can scrape
-- them, so the API's /metrics reports them from this table. One row per job, so the table does not grow.
CREATE TABLE sluice.jobs (
  job          text             COLLATE "C" CONSTRAINT jobs_pkey PRIMARY KEY,
  finished_at  timestamptz      NOT NULL,
  succeeded    boolean          NOT NULL,
  -- When it last succeeded. NULL: never.
  succeeded_at timestamptz,
  seconds      double precision NOT NULL,
  -- What the last run measured, by name, such as bytes and counts. Numbers only.
  figures      jsonb            NOT NULL DEFAULT '{}',
  -- Totals over all runs, by name, for counters. Each run adds to them.
  totals       jsonb            NOT NULL DEFAULT '{}',

  CONSTRAINT jobs_job_known   CHECK (job IN ('backup', 'restore_drill', 'retention')),
  CONSTRAINT jobs_figures_map CHECK (jsonb_typeof(figures) = 'object'),
  CONSTRAINT jobs_totals_map  CHECK (jsonb_typeof(totals)  = 'object')
);
