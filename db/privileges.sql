-- The privileges of each role. Runs after every migration, as the owner, and grants everything again. So a role that was created
-- after the tables gets its privileges, and privileges that are no longer listed here are revoked. Roles that do not exist are
-- skipped: on your own server, everything may run as one user.
DO $$
DECLARE
  statement text;
BEGIN
  FOR statement IN
    SELECT s FROM (VALUES
      ('sluice_api',         'REVOKE ALL ON ALL TABLES IN SCHEMA sluice FROM sluice_api'),
      -- The API may begin an epoch. The other roles do not write records.
      ('sluice_api',         'REVOKE ALL ON ALL FUNCTIONS IN SCHEMA sluice FROM PUBLIC'),
      ('sluice_api',         'GRANT EXECUTE ON FUNCTION sluice.current_epoch(integer, xid8) TO sluice_api'),
      ('sluice_api',         'GRANT USAGE ON SCHEMA sluice TO sluice_api'),
      ('sluice_api',         'GRANT SELECT ON ALL TABLES IN SCHEMA sluice TO sluice_api'),
      -- No UPDATE or DELETE on records: the API cannot undo what it has acknowledged. Without xid and received_at, which have
      -- defaults, it cannot store a record in the past of consumers, or at a false time.
      ('sluice_api',         'GRANT INSERT (epoch, n, source, id, type, subject, "time", dataschema, datacontenttype, extensions, data,
                                            data_bytes) ON sluice.records TO sluice_api'),
      -- For /v1/keys: it creates and revokes keys. scripts/without-kubernetes.md, "Roles", says how to forbid that.
      ('sluice_api',         'GRANT INSERT, UPDATE (revoked_at) ON sluice.keys TO sluice_api'),
      -- For /v1/consumers. Only retention says that a consumer was overtaken.
      ('sluice_api',         'GRANT INSERT, UPDATE (epoch, xid, n, revision, updated_at), DELETE ON sluice.consumers TO sluice_api'),
      -- It counts what came in. Nobody but the owner can change what a series is.
      ('sluice_api',         'GRANT INSERT ON sluice.series TO sluice_api'),
      ('sluice_api',         'GRANT INSERT, UPDATE (records, bytes, duplicates, rejected) ON sluice.rollups TO sluice_api'),
      ('sluice_api',         'GRANT UPDATE (epoch, xid, n, records, folded, rest_until) ON sluice.rollup_progress TO sluice_api'),
      -- How much space was used, for the forecast in /v1/status.
      ('sluice_api',         'GRANT INSERT, DELETE ON sluice.storage_history TO sluice_api'),
      ('sluice_maintenance', 'REVOKE ALL ON ALL TABLES IN SCHEMA sluice FROM sluice_maintenance'),
      ('sluice_maintenance', 'GRANT USAGE ON SCHEMA sluice TO sluice_maintenance'),
      -- MAINTAIN is for VACUUM. Without it, the space of deleted records is not reused.
      ('sluice_maintenance', 'GRANT SELECT, DELETE, MAINTAIN ON sluice.records TO sluice_maintenance'),
      -- The end of the feed, where retention stops.
      ('sluice_maintenance', 'GRANT SELECT ON sluice.epochs TO sluice_maintenance'),
      -- What consumers have read, and a mark for those that missed deleted records.
      ('sluice_maintenance', 'GRANT SELECT, UPDATE (overtaken_at) ON sluice.consumers TO sluice_maintenance'),
      -- It counts records before it deletes them, and deletes old rollups.
      ('sluice_maintenance', 'GRANT SELECT, INSERT ON sluice.series TO sluice_maintenance'),
      ('sluice_maintenance', 'GRANT SELECT, INSERT, UPDATE (records, bytes, duplicates, rejected), DELETE ON sluice.rollups TO sluice_maintenance'),
      ('sluice_maintenance', 'GRANT SELECT, UPDATE (epoch, xid, n, records, folded, rest_until) ON sluice.rollup_progress TO sluice_maintenance'),
      -- A job records its result and adds to the totals.
      ('sluice_maintenance', 'GRANT SELECT, INSERT, UPDATE ON sluice.jobs TO sluice_maintenance'),
      -- The backup role reads everything as a member of pg_read_all_data.
      ('sluice_backup',      'REVOKE ALL ON ALL TABLES IN SCHEMA sluice FROM sluice_backup'),
      ('sluice_backup',      'GRANT INSERT, UPDATE ON sluice.jobs TO sluice_backup'),
      ('sluice_reader',      'REVOKE ALL ON ALL TABLES IN SCHEMA sluice FROM sluice_reader'),
      ('sluice_reader',      'GRANT USAGE ON SCHEMA sluice TO sluice_reader'),
      ('sluice_reader',      'GRANT SELECT ON sluice.records, sluice.epochs, sluice.consumers, sluice.series, sluice.rollups, sluice.rollup_progress
                              TO sluice_reader')
    ) AS wanted (role, s)
    WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.role)
    -- Without an order, a REVOKE could run after the GRANTs of the same role.
    ORDER BY s LIKE 'GRANT%'
  LOOP
    EXECUTE statement;
  END LOOP;
END
$$;
