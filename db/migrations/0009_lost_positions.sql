-- Closes two gaps in how epochs begin.
--
-- 1. `sluice epoch begin` leaps half a year ahead. For that long, the clock no longer mattered: each start added one, so a
-- database that was set back could give the same number to two epochs. Now a new epoch also adds the seconds since the
-- previous one, so that the numbers keep their distance from the clock.
--
-- 2. If a caller or the operator knows of positions that the server has not assigned, the database was set back. The new epoch
-- then sorts after all positions that were lost. But records that were stored since the database was set back sort before
-- them, and a consumer that continues from a lost cursor would miss them. The new epoch notes this, and such cursors are
-- refused (src/data/epochs.ts).
--
-- Positions from this transaction id of the previous epoch on, up to this epoch, are lost, and records were stored before them.
-- NULL: there are no such positions.
ALTER TABLE sluice.epochs ADD COLUMN lost_from xid8;

-- The rest of the function is described in 0007_epochs_by_start.sql.
CREATE OR REPLACE FUNCTION sluice.current_epoch(seen_epoch integer DEFAULT 0, seen_xid xid8 DEFAULT '0') RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  highest CONSTANT integer := 1073741824;
  here   record;
  latest record;
  locked text;
BEGIN
  -- A WAL file's name starts with the timeline, as eight hexadecimal digits.
  SELECT c.system_identifier,
         ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer AS timeline,
         pg_postmaster_start_time() AS server_started_at
    INTO here FROM pg_control_system() AS c;

  LOOP
    SELECT e.epoch, e.system_identifier, e.timeline, e.server_started_at, e.started_at
      INTO latest FROM sluice.epochs AS e ORDER BY e.epoch DESC LIMIT 1;

    IF (latest.system_identifier, latest.timeline, latest.server_started_at)
       IS DISTINCT FROM (here.system_identifier, here.timeline, here.server_started_at) THEN
      EXIT WHEN locked IS NOT NULL;
      -- Several writers may notice this at the same time. The first one takes the lock. The others wait here and then find its
      -- row.
      LOCK TABLE sluice.epochs IN EXCLUSIVE MODE;
      locked := 'exclusive';
    ELSE
      seen_epoch := least(seen_epoch, greatest(latest.epoch, highest));
      IF seen_epoch < latest.epoch THEN
        RETURN latest.epoch;
      ELSIF seen_epoch = latest.epoch AND seen_xid < pg_current_xact_id() THEN
        RETURN latest.epoch;
      END IF;
      EXIT WHEN locked = 'access exclusive';
      -- If two sessions hold a lock on the table and both request this one, one of them fails (40P01) and tries again. A backup
      -- may hold its lock for hours. The timeout limits how long writers wait behind this session.
      PERFORM set_config('lock_timeout', '5s', true);
      LOCK TABLE sluice.epochs IN ACCESS EXCLUSIVE MODE;
      locked := 'access exclusive';
    END IF;
  END LOOP;

  INSERT INTO sluice.epochs AS e (epoch, system_identifier, timeline, server_started_at, lost_from)
  VALUES (
    CASE WHEN latest.epoch IS NULL AND seen_epoch < 1 THEN 1
         ELSE greatest(
           latest.epoch + 1,
           least(
             greatest(
               seen_epoch + 1::bigint,
               extract(epoch FROM clock_timestamp() - '2025-01-01 00:00:00+00'::timestamptz)::bigint,
               latest.epoch + floor(extract(epoch FROM clock_timestamp() - latest.started_at))::bigint
             ),
             highest
           )
         )
    END,
    here.system_identifier, here.timeline, here.server_started_at,
    -- Because it holds the table exclusively, this transaction sees every row of the previous epoch, and their transaction ids
    -- are all lower.
    CASE WHEN locked = 'access exclusive' AND EXISTS (SELECT FROM sluice.records AS r WHERE r.epoch = latest.epoch)
         THEN pg_snapshot_xmax(pg_current_snapshot())
    END
  )
  RETURNING e.epoch INTO latest;
  RETURN latest.epoch;
END
$$;
