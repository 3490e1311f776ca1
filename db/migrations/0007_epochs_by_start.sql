-- A copy of the database's files that is put back, or a snapshot of its volume, keeps the system identifier and the timeline,
-- and its transaction ids go back: what was written then came before what consumers had read already. But it has to be
-- started, so each start of the server now begins an epoch. A crash of a backend, after which the server recovers by itself,
-- does not: its transaction ids go on.
--
-- NULL: of an epoch that began before this was noted.
ALTER TABLE sluice.epochs ADD COLUMN server_started_at timestamptz;

UPDATE sluice.epochs SET server_started_at = pg_postmaster_start_time()
WHERE epoch = (SELECT max(epoch) FROM sluice.epochs)
  AND (system_identifier, timeline) = (
    SELECT system_identifier, ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer
    FROM pg_control_system()
  );

-- The epoch that a row written now belongs to; begins a new one when the server is not the one that began the latest, when
-- it was started again, or when it went back behind what a caller has seen of it: of a copy with its memory (a virtual
-- machine's) nothing else tells.
--
-- A new epoch is greater than all that the database and the caller know of, and no less than the time in seconds since 2025:
-- of a life that is lost, the database knows nothing. No clock and no caller takes it past 2^30, from where each start adds
-- one: 2^30 starts are left.
--
-- All rows of an epoch are there once a greater one can be seen (src/data/select-records.ts). That holds, because no
-- transaction outlives its server, and because an epoch of the same start begins only when nobody writes: each caller of this
-- function holds a lock on the table until its transaction ends. (Prepared transactions would outlive it; nobody prepares any.)
DROP FUNCTION sluice.current_epoch();

CREATE FUNCTION sluice.current_epoch(seen_epoch integer DEFAULT 0, seen_xid xid8 DEFAULT '0') RETURNS integer
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
    SELECT e.epoch, e.system_identifier, e.timeline, e.server_started_at
      INTO latest FROM sluice.epochs AS e ORDER BY e.epoch DESC LIMIT 1;

    IF (latest.system_identifier, latest.timeline, latest.server_started_at)
       IS DISTINCT FROM (here.system_identifier, here.timeline, here.server_started_at) THEN
      EXIT WHEN locked IS NOT NULL;
      -- Several writers notice at once: the others wait here for the first, and then find its row.
      LOCK TABLE sluice.epochs IN EXCLUSIVE MODE;
      locked := 'against others that notice';
    ELSE
      seen_epoch := least(seen_epoch, greatest(latest.epoch, highest));
      IF seen_epoch < latest.epoch THEN
        RETURN latest.epoch;
      ELSIF seen_epoch = latest.epoch AND seen_xid < pg_current_xact_id() THEN
        RETURN latest.epoch;
      END IF;
      EXIT WHEN locked = 'against all';
      -- Of two that hold the table already and want it alone, one fails (40P01) and tries again. A backup may hold it for
      -- hours, and must not stop everybody meanwhile.
      PERFORM set_config('lock_timeout', '5s', true);
      LOCK TABLE sluice.epochs IN ACCESS EXCLUSIVE MODE;
      locked := 'against all';
    END IF;
  END LOOP;

  INSERT INTO sluice.epochs AS e (epoch, system_identifier, timeline, server_started_at)
  VALUES (
    CASE WHEN latest.epoch IS NULL AND seen_epoch < 1 THEN 1
         ELSE greatest(
           latest.epoch + 1,
           least(
             greatest(seen_epoch + 1::bigint, extract(epoch FROM clock_timestamp() - '2025-01-01 00:00:00+00'::timestamptz)::bigint),
             highest
           )
         )
    END,
    here.system_identifier, here.timeline, here.server_started_at
  )
  RETURNING e.epoch INTO latest;
  RETURN latest.epoch;
END
$$;
