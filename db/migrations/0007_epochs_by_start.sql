-- A copy of the database's files, or a snapshot of its volume, that is put back keeps the system identifier and the timeline,
-- but its transaction ids go back: new records would sort before records that consumers have already read. The server must be
-- started for this, so now each start of the server begins an epoch. A crash of a backend, after which the server recovers by
-- itself, does not: the transaction ids continue.
--
-- NULL: the epoch began before this column existed.
ALTER TABLE sluice.epochs ADD COLUMN server_started_at timestamptz;

UPDATE sluice.epochs SET server_started_at = pg_postmaster_start_time()
WHERE epoch = (SELECT max(epoch) FROM sluice.epochs)
  AND (system_identifier, timeline) = (
    SELECT system_identifier, ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer
    FROM pg_control_system()
  );

-- Returns the epoch of a row that is written now. Begins a new epoch if the latest one began on another server, if the server
-- was restarted, or if the server is behind a transaction that the caller has seen. Only the last case reveals a virtual
-- machine that was set back with its memory.
--
-- A new epoch is greater than all epochs that the database and the caller know, and at least the time in seconds since 2025,
-- because the database does not know the epochs that were lost when it was set back. No clock and no caller can raise it
-- above 2^30. From there each start adds one, so 2^30 starts are left.
--
-- All rows of an epoch are visible once a greater epoch is (src/data/select-records.ts). This holds because no transaction
-- outlives its server, and because another epoch of the same start begins only while nobody writes: each caller of this
-- function holds a lock on the table until its transaction ends. (A prepared transaction would outlive the server. Sluice
-- prepares none.)
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
