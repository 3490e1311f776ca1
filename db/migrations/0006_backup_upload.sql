ALTER TABLE sluice.jobs
  DROP CONSTRAINT jobs_job_known,
  ADD  CONSTRAINT jobs_job_known CHECK (job IN ('backup', 'backup_upload', 'restore_drill', 'retention'));
