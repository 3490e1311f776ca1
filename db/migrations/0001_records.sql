-- The system of record. The API only inserts rows; see db/privileges.sql.

-- The epochs of this database. Transaction ids order the feed, but they start over when a dump is restored into another
-- cluster, and go back when a cluster is restored to an earlier point. In both cases the server has a new system
-- identifier or WAL timeline. Then a new epoch begins: all rows written from then on sort after all rows written before.
CREATE TABLE sluice.epochs (
  epoch             integer     CONSTRAINT epochs_pkey PRIMARY KEY CONSTRAINT epochs_epoch_positive CHECK (epoch > 0),
  system_identifier bigint      NOT NULL,
  timeline          integer     NOT NULL,
  started_at        timestamptz NOT NULL DEFAULT now()
);

-- Returns the epoch of a row that is written now. Begins a new epoch if the latest one began on another server.
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
    -- If two writers notice this at the same time, the second waits for the first, inserts nothing, and returns the same epoch.
    INSERT INTO sluice.epochs (epoch, system_identifier, timeline)
    VALUES (coalesce(latest.epoch, 0) + 1, here.system_identifier, here.timeline)
    ON CONFLICT (epoch) DO NOTHING;
    RETURN coalesce(latest.epoch, 0) + 1;
  END IF;

  RETURN latest.epoch;
END
$$;

CREATE TABLE sluice.records (
  -- The position in the feed is (epoch, xid, n). A sequence number is not enough: it is assigned before the commit, so a
  -- lower number can become visible after a higher one, and a consumer misses it. Rows are shown once no running
  -- transaction of this database can add a row before them (src/data/select-records.ts).
  xid             xid8        NOT NULL DEFAULT pg_current_xact_id(),
  -- A random number of the flush, times 2^20, plus the slot of the row. It orders the rows of one transaction. A flush that
  -- is sent again after a broken connection recognises the rows of its first try by it.
  n               bigint      NOT NULL,
  -- now() of the database: there is one clock, however many instances write.
  received_at     timestamptz NOT NULL DEFAULT now(),
  -- As the client sent it. NULL: the client sent none, and received_at is used instead.
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
  -- json and not jsonb, to keep the text as it was received. jsonb drops repeated keys, reorders the others, and expands
  -- 1e131071 to 131,072 digits. The API rejects values that do not fit jsonb, so data::jsonb always works.
  data            json,
  -- The bytes of data_base64.
  data_bytes      bytea,

  CONSTRAINT records_pkey           PRIMARY KEY (epoch, xid, n),
  -- The identity. The constraint decides what is a duplicate, in the statement that writes.
  CONSTRAINT records_identity       UNIQUE (source, id),
  CONSTRAINT records_source_size    CHECK (octet_length(source) BETWEEN 1 AND 512),
  CONSTRAINT records_id_size        CHECK (octet_length(id)     BETWEEN 1 AND 256),
  CONSTRAINT records_type_size      CHECK (octet_length(type)   BETWEEN 1 AND 256),
  CONSTRAINT records_data_once      CHECK (data IS NULL OR data_bytes IS NULL)
);

-- Block-range indexes take a few pages for millions of rows. They work because both times nearly follow the order of
-- insertion.
CREATE INDEX records_received_at ON sluice.records USING brin (received_at);
CREATE INDEX records_time        ON sluice.records USING brin ((coalesce("time", received_at)));
