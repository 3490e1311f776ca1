-- So far a new epoch was the latest epoch in the database plus one. But a restored database does not know the epochs that
-- began after its backup. If it was restored twice from the same backup, or from a backup older than a failover, two epochs
-- got the same number, and a consumer with a cursor from the lost one missed the first records of the new one. Now the
-- number is the time when the epoch begins, in seconds since 2025, so no two epochs share it. The first epoch stays 1.
CREATE OR REPLACE FUNCTION sluice.current_epoch() RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  here   record;
  latest record;
BEGIN
  -- A WAL file's name starts with the timeline, as eight hexadecimal digits.
  SELECT c.system_identifier, ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer AS timeline
    INTO here FROM pg_control_system() AS c;

  FOR attempt IN 1..2 LOOP
    SELECT e.epoch, e.system_identifier, e.timeline
      INTO latest FROM sluice.epochs AS e ORDER BY e.epoch DESC LIMIT 1;

    IF (latest.system_identifier, latest.timeline) = (here.system_identifier, here.timeline) THEN
      RETURN latest.epoch;
    END IF;
    -- Several writers may notice this at the same time. The first one takes the lock. The others wait here and then find its row.
    LOCK TABLE sluice.epochs IN EXCLUSIVE MODE;
  END LOOP;

  INSERT INTO sluice.epochs AS e (epoch, system_identifier, timeline)
  VALUES (
    CASE WHEN latest IS NULL THEN 1
         ELSE greatest(latest.epoch + 1, extract(epoch FROM clock_timestamp() - '2025-01-01 00:00:00+00'::timestamptz)::integer)
    END,
    here.system_identifier, here.timeline
  )
  RETURNING e.epoch INTO latest;
  RETURN latest.epoch;
END
$$;
