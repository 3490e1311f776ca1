-- How much space the database used, once an hour: a forecast of the day on which the storage budget is spent needs more than one
-- measurement (src/status/forecast.ts). The API deletes samples after a month.
CREATE TABLE sluice.storage_history (
  hour       timestamptz CONSTRAINT storage_history_pkey PRIMARY KEY,
  used_bytes bigint NOT NULL
);
