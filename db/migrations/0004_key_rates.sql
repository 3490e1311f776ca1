-- How many records a second an instance takes from a key. NULL: as the instance's KEY_RECORDS_PER_SECOND says.
ALTER TABLE sluice.keys
  ADD COLUMN records_per_second integer
  CONSTRAINT keys_records_per_second_positive CHECK (records_per_second > 0);
