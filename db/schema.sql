-- What the migrations add up to. To read, not to run: made by `node db/dump.ts > db/schema.sql`, and a test makes it again.

CREATE TABLE sluice.epochs (
  epoch             integer                  NOT NULL,
  system_identifier bigint                   NOT NULL,
  timeline          integer                  NOT NULL,
  started_at        timestamp with time zone NOT NULL DEFAULT now(),
  server_started_at timestamp with time zone,
  lost_from         xid8,
  CONSTRAINT epochs_pkey PRIMARY KEY (epoch),
  CONSTRAINT epochs_epoch_positive CHECK ((epoch > 0))
);

CREATE TABLE sluice.jobs (
  job          text                     COLLATE "C" NOT NULL,
  finished_at  timestamp with time zone NOT NULL,
  succeeded    boolean                  NOT NULL,
  succeeded_at timestamp with time zone,
  seconds      double precision         NOT NULL,
  figures      jsonb                    NOT NULL DEFAULT '{}'::jsonb,
  totals       jsonb                    NOT NULL DEFAULT '{}'::jsonb,
  CONSTRAINT jobs_pkey PRIMARY KEY (job),
  CONSTRAINT jobs_figures_map CHECK ((jsonb_typeof(figures) = 'object'::text)),
  CONSTRAINT jobs_job_known CHECK ((job = ANY (ARRAY['backup'::text, 'backup_upload'::text, 'restore_drill'::text, 'retention'::text]))),
  CONSTRAINT jobs_totals_map CHECK ((jsonb_typeof(totals) = 'object'::text))
);

CREATE TABLE sluice.keys (
  id                 text                     COLLATE "C" NOT NULL,
  name               text                     NOT NULL,
  hash               bytea                    NOT NULL,
  scopes             text[]                   NOT NULL,
  source_prefixes    text[]                   NOT NULL DEFAULT '{}'::text[],
  created_at         timestamp with time zone NOT NULL DEFAULT now(),
  expires_at         timestamp with time zone,
  revoked_at         timestamp with time zone,
  records_per_second integer,
  CONSTRAINT keys_pkey PRIMARY KEY (id),
  CONSTRAINT keys_hash UNIQUE (hash),
  CONSTRAINT keys_hash_size CHECK ((octet_length(hash) = 32)),
  CONSTRAINT keys_records_per_second_positive CHECK ((records_per_second > 0)),
  CONSTRAINT keys_scopes_known CHECK (((scopes <@ '{ingest,read,admin}'::text[]) AND (cardinality(scopes) > 0)))
);

CREATE TABLE sluice.migrations (
  name        character varying(255) NOT NULL,
  "timestamp" character varying(255) NOT NULL,
  CONSTRAINT migrations_pkey PRIMARY KEY (name)
);

CREATE TABLE sluice.migrations_lock (
  id        character varying(255) NOT NULL,
  is_locked integer                NOT NULL DEFAULT 0,
  CONSTRAINT migrations_lock_pkey PRIMARY KEY (id)
);

CREATE TABLE sluice.records (
  xid             xid8                     NOT NULL DEFAULT pg_current_xact_id(),
  n               bigint                   NOT NULL,
  received_at     timestamp with time zone NOT NULL DEFAULT now(),
  "time"          timestamp with time zone,
  epoch           integer                  NOT NULL,
  source          text                     COLLATE "C" NOT NULL,
  id              text                     COLLATE "C" NOT NULL,
  type            text                     COLLATE "C" NOT NULL,
  subject         text                     COLLATE "C",
  dataschema      text                     COLLATE "C",
  datacontenttype text                     COLLATE "C",
  extensions      jsonb,
  data            json,
  data_bytes      bytea,
  CONSTRAINT records_pkey PRIMARY KEY (epoch, xid, n),
  CONSTRAINT records_identity UNIQUE (source, id),
  CONSTRAINT records_data_once CHECK (((data IS NULL) OR (data_bytes IS NULL))),
  CONSTRAINT records_id_size CHECK (((octet_length(id) >= 1) AND (octet_length(id) <= 256))),
  CONSTRAINT records_source_size CHECK (((octet_length(source) >= 1) AND (octet_length(source) <= 512))),
  CONSTRAINT records_type_size CHECK (((octet_length(type) >= 1) AND (octet_length(type) <= 256)))
);
CREATE INDEX records_received_at ON sluice.records USING brin (received_at);
CREATE INDEX records_time ON sluice.records USING brin (COALESCE("time", received_at));

CREATE OR REPLACE FUNCTION sluice.current_epoch(seen_epoch integer DEFAULT 0, seen_xid xid8 DEFAULT '0'::xid8)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
    -- With the table to itself, this transaction sees every row of the epoch before, whose transaction ids are all lower.
    CASE WHEN locked = 'against all' AND EXISTS (SELECT FROM sluice.records AS r WHERE r.epoch = latest.epoch)
         THEN pg_snapshot_xmax(pg_current_snapshot())
    END
  )
  RETURNING e.epoch INTO latest;
  RETURN latest.epoch;
END
$function$;

GRANT USAGE ON SCHEMA sluice TO sluice_api;
GRANT SELECT ON sluice.epochs TO sluice_api;
GRANT SELECT ON sluice.jobs TO sluice_api;
GRANT INSERT, SELECT, UPDATE ON sluice.keys TO sluice_api;
GRANT SELECT ON sluice.migrations TO sluice_api;
GRANT SELECT ON sluice.migrations_lock TO sluice_api;
GRANT INSERT, SELECT ON sluice.records TO sluice_api;
GRANT EXECUTE ON FUNCTION sluice.current_epoch(integer,xid8) TO sluice_api;
GRANT INSERT, UPDATE ON sluice.jobs TO sluice_backup;
GRANT USAGE ON SCHEMA sluice TO sluice_maintenance;
GRANT SELECT ON sluice.epochs TO sluice_maintenance;
GRANT INSERT, SELECT, UPDATE ON sluice.jobs TO sluice_maintenance;
GRANT DELETE, MAINTAIN, SELECT ON sluice.records TO sluice_maintenance;
GRANT USAGE ON SCHEMA sluice TO sluice_reader;
GRANT SELECT ON sluice.epochs TO sluice_reader;
GRANT SELECT ON sluice.records TO sluice_reader;
