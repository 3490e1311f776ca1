-- The system of record. Rows are only ever inserted by the API; see db/privileges.sql.

-- The lives of this database. Transaction ids order the feed, but they start over when a dump is restored into
-- another cluster, and go back when a cluster is restored to an earlier point. Either way the server's system
-- identifier or its WAL timeline is new, and so is the epoch: everything written from then on sorts after
-- everything written before.
CREATE TABLE sluice.epochs (
  epoch             integer     CONSTRAINT epochs_pkey PRIMARY KEY CONSTRAINT epochs_epoch_positive CHECK (epoch > 0),
  system_identifier bigint      NOT NULL,
  timeline          integer     NOT NULL,
  started_at        timestamptz NOT NULL DEFAULT now()
);

-- The epoch that a row written now belongs to; begins a new one when this is not the server that the latest began on.
-- SECURITY DEFINER: the API may begin an epoch, but not write the table.
CREATE FUNCTION sluice.current_epoch() RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  here   record;
  latest record;
BEGIN
  -- A WAL file's name starts with the timeline, as eight hexadecimal digits.
  SELECT c.system_identifier, ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer AS timeline
    INTO here FROM pg_control_system() AS c;

  SELECT e.epoch, e.system_identifier, e.timeline
    INTO latest FROM sluice.epochs AS e ORDER BY e.epoch DESC LIMIT 1;

  IF latest IS NULL OR (latest.system_identifier, latest.timeline) <> (here.system_identifier, here.timeline) THEN
    -- Two writers that notice at once agree: the second waits for the first, and finds its row.
    INSERT INTO sluice.epochs (epoch, system_identifier, timeline)
    VALUES (coalesce(latest.epoch, 0) + 1, here.system_identifier, here.timeline)
    ON CONFLICT (epoch) DO NOTHING;
    RETURN coalesce(latest.epoch, 0) + 1;
  END IF;

  RETURN latest.epoch;
END
$$;

CREATE TABLE sluice.records (
  -- The position in the feed is (epoch, xid, n). A sequence would not do: it is taken before the commit, so that a
  -- lower number can become visible after a higher one and a consumer misses it. Rows are shown once no transaction of
  -- this database that could still add one before them is running (src/data/select-records.ts).
  xid             xid8        NOT NULL DEFAULT pg_current_xact_id(),
  -- A random number of the flush, times 2^20, plus the row's place in it. Orders the rows of one transaction, and
  -- lets a flush that is sent again after a broken connection recognise the rows of its first try as its own.
  n               bigint      NOT NULL,
  -- now() of the database: one clock, however many instances write.
  received_at     timestamptz NOT NULL DEFAULT now(),
  -- As the client said it. NULL: not said, and received_at stands in for it.
  "time"          timestamptz,
  epoch           integer     NOT NULL,
  source          text        COLLATE "C" NOT NULL,
  id              text        COLLATE "C" NOT NULL,
  type            text        COLLATE "C" NOT NULL,
  subject         text        COLLATE "C",
  dataschema      text        COLLATE "C",
  datacontenttype text        COLLATE "C",
  -- CloudEvents extension attributes: strings, booleans and 32-bit integers.
  extensions      jsonb,
  -- json and not jsonb: the text as it was received. jsonb drops repeated keys, reorders the others, and writes
  -- 1e131071 out as 131,072 digits. Every value also fits jsonb (the API refuses what does not), so data::jsonb works.
  data            json,
  -- What came as data_base64.
  data_bytes      bytea,

  CONSTRAINT records_pkey           PRIMARY KEY (epoch, xid, n),
  -- The identity. The constraint decides what is a duplicate, in the statement that writes.
  CONSTRAINT records_identity       UNIQUE (source, id),
  CONSTRAINT records_source_size    CHECK (octet_length(source) BETWEEN 1 AND 512),
  CONSTRAINT records_id_size        CHECK (octet_length(id)     BETWEEN 1 AND 256),
  CONSTRAINT records_type_size      CHECK (octet_length(type)   BETWEEN 1 AND 256),
  CONSTRAINT records_data_once      CHECK (data IS NULL OR data_bytes IS NULL)
);

-- Block ranges, a few pages for millions of rows: both times nearly follow the order of insertion.
CREATE INDEX records_received_at ON sluice.records USING brin (received_at);
CREATE INDEX records_time        ON sluice.records USING brin ((coalesce("time", received_at)));
