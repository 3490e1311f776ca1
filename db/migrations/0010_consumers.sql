-- Consumers: named, stored offsets. A client that follows the feed stores here how far it has read, and changes the offset only if
-- nobody else has changed it.
CREATE TABLE sluice.consumers (
  name         text        COLLATE "C" CONSTRAINT consumers_pkey PRIMARY KEY,
  -- The position in the feed: the consumer has read the records up to here. (0, 0, 0) is before the first record.
  epoch        integer     NOT NULL,
  xid          xid8        NOT NULL,
  n            bigint      NOT NULL,
  -- The ETag. It is random and not a number that counts up: a number would come again if the consumer is deleted and created, or if the
  -- database is set back to an earlier state, and then a client could overwrite an offset that it does not know.
  revision     uuid        NOT NULL DEFAULT gen_random_uuid(),
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  -- When retention last deleted records that the consumer had not read. NULL: never.
  overtaken_at timestamptz,

  CONSTRAINT consumers_name_size CHECK (octet_length(name) BETWEEN 1 AND 128),
  CONSTRAINT consumers_position  CHECK (epoch >= 0 AND n >= 0)
);
