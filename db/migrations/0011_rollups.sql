-- Rollups: how many records came in per minute, hour and day, by source and type. One instance at a time follows the feed and adds
-- what it has read, in the transaction that moves its position (src/data/rollups.ts). So each record is counted exactly once, and no
-- flush waits for it.

-- What is counted separately. '' means all: ('', '') counts every record, ('', type) every record of this type, and (source, '') every
-- record of this source. The number of rows is limited. A record without a row of its own here is counted in the others.
CREATE TABLE sluice.series (
  series integer GENERATED ALWAYS AS IDENTITY CONSTRAINT series_pkey PRIMARY KEY,
  source text    COLLATE "C" NOT NULL,
  type   text    COLLATE "C" NOT NULL,

  CONSTRAINT series_name UNIQUE (source, type)
);
INSERT INTO sluice.series (source, type) VALUES ('', '');

-- Free space on each page, because the rows of the current minute, hour and day are updated every second.
CREATE TABLE sluice.rollups (
  series     integer     NOT NULL,
  -- The length of the bucket in seconds.
  seconds    integer     NOT NULL,
  start      timestamptz NOT NULL,
  records    bigint      NOT NULL DEFAULT 0,
  -- What the payloads take in the table.
  bytes      bigint      NOT NULL DEFAULT 0,
  -- What was sent and not stored. Unlike the records, these are counted in the memory of the API first.
  duplicates bigint      NOT NULL DEFAULT 0,
  rejected   bigint      NOT NULL DEFAULT 0,

  CONSTRAINT rollups_pkey   PRIMARY KEY (series, seconds, start),
  CONSTRAINT rollups_length CHECK (seconds IN (60, 3600, 86400))
) WITH (fillfactor = 70);

-- How far the counts are. The records that were stored before this migration are counted in the background, while `live` counts the new
-- ones.
CREATE TABLE sluice.rollup_progress (
  part        text    COLLATE "C" CONSTRAINT rollup_progress_pkey PRIMARY KEY,
  -- The last position that is counted.
  epoch       integer NOT NULL,
  xid         xid8    NOT NULL,
  n           bigint  NOT NULL,
  -- Where the part ends; NULL: never.
  until_epoch integer,
  until_xid   xid8,
  until_n     bigint,
  records     bigint  NOT NULL DEFAULT 0,
  -- How many of these records have no series of their own.
  folded      bigint  NOT NULL DEFAULT 0,
  -- Before this time, no more old records are counted.
  rest_until  timestamptz,

  CONSTRAINT rollup_progress_part CHECK (part IN ('live', 'backfill'))
);

-- Records whose transactions are still running come after xmin, so `live` counts them.
WITH last AS (
  SELECT epoch, xid, n FROM sluice.records
  WHERE (epoch, xid) < ((SELECT max(epoch) FROM sluice.epochs), pg_snapshot_xmin(pg_current_snapshot()))
  ORDER BY epoch DESC, xid DESC, n DESC LIMIT 1
), started AS (
  SELECT epoch, xid, n FROM last UNION ALL SELECT 0, '0', 0 WHERE NOT EXISTS (SELECT FROM last)
)
INSERT INTO sluice.rollup_progress (part, epoch, xid, n, until_epoch, until_xid, until_n)
SELECT 'live', epoch, xid, n, NULL, NULL, NULL FROM started
UNION ALL
SELECT 'backfill', 0, '0', 0, epoch, xid, n FROM started;
