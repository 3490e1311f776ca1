-- Fails if the schema contains more than an API creates before it stores a record.
DO $$
DECLARE
  name   text;
  filled bigint;
BEGIN
  FOR name IN
    SELECT tablename FROM pg_catalog.pg_tables
    WHERE schemaname = 'sluice' AND tablename NOT IN (
      'migrations', 'migrations_lock', 'epochs', 'jobs', 'keys', 'series', 'rollup_progress', 'storage_history'
    )
    ORDER BY tablename
  LOOP
    EXECUTE format('SELECT count(*) FROM sluice.%I', name) INTO filled;
    IF filled > 0 THEN
      RAISE EXCEPTION 'the database % is in use: % rows in sluice.%. Nothing was changed. Restore into an empty database; to set this one aside, see "Restore" in k8s/components/backup/README.md',
        current_database(), filled, name;
    END IF;
  END LOOP;
END
$$;
