-- How many records per second an instance accepts from a key. NULL: the instance's KEY_RECORDS_PER_SECOND.
ALTER TABLE sluice.keys
  ADD COLUMN records_per_second integer
  CONSTRAINT keys_records_per_second_positive CHECK (records_per_second > 0);
