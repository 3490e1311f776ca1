-- The records of the feed. As texts, cursors have its order. The other columns have the names and types of sluice.records.
CREATE TABLE feed_records (
  cursor          text        COLLATE "C" NOT NULL,
  source          text        COLLATE "C" NOT NULL,
  id              text        COLLATE "C" NOT NULL,
  type            text        COLLATE "C" NOT NULL,
  "time"          timestamptz             NOT NULL,
  subject         text        COLLATE "C",
  dataschema      text        COLLATE "C",
  datacontenttype text        COLLATE "C",
  extensions      jsonb,
  -- json keeps the text as it was sent. jsonb would change the order of members, drop repeated ones, and write 1e3 as 1000.
  data            json,
  -- The bytes of data_base64.
  data_bytes      bytea,
  received_at     timestamptz             NOT NULL,
  CONSTRAINT feed_records_pkey PRIMARY KEY (cursor)
);

-- Not unique: a record that was deleted and sent again is in the feed twice.
CREATE INDEX feed_records_identity ON feed_records (source, id);

-- How far the records above go: one row, which changes in the transaction that adds records.
CREATE TABLE feed_offset (
  "offset" text    COLLATE "C" NOT NULL,
  -- The filter with which the records were selected, so that nobody continues with another one.
  filter   text                NOT NULL,
  is_only  boolean             NOT NULL DEFAULT true,
  CONSTRAINT feed_offset_one_row PRIMARY KEY (is_only),
  CONSTRAINT feed_offset_is_only CHECK (is_only)
);
