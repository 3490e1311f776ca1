-- What each role may do. Runs after every migration, as the owner, and says everything again: a role made after the
-- tables still gets what it needs, and what is no longer said here is taken away. A role that does not exist is passed
-- over: a server of your own may run everything as one user.
DO $$
DECLARE
  statement text;
BEGIN
  FOR statement IN
    SELECT s FROM (VALUES
      ('sluice_api',         'REVOKE ALL ON ALL TABLES IN SCHEMA sluice FROM sluice_api'),
      -- It may begin an epoch, and others have nothing to write in one.
      ('sluice_api',         'REVOKE ALL ON ALL FUNCTIONS IN SCHEMA sluice FROM PUBLIC'),
      ('sluice_api',         'GRANT EXECUTE ON FUNCTION sluice.current_epoch(integer, xid8) TO sluice_api'),
      ('sluice_api',         'GRANT USAGE ON SCHEMA sluice TO sluice_api'),
      ('sluice_api',         'GRANT SELECT ON ALL TABLES IN SCHEMA sluice TO sluice_api'),
      -- Records and nothing else, and never UPDATE or DELETE: what was acknowledged cannot be undone through the API.
      ('sluice_api',         'GRANT INSERT ON sluice.records TO sluice_api'),
      ('sluice_api',         'GRANT INSERT, UPDATE ON sluice.keys TO sluice_api'),
      ('sluice_maintenance', 'REVOKE ALL ON ALL TABLES IN SCHEMA sluice FROM sluice_maintenance'),
      ('sluice_maintenance', 'GRANT USAGE ON SCHEMA sluice TO sluice_maintenance'),
      -- MAINTAIN is for VACUUM, without which the space of what was deleted is not used again.
      ('sluice_maintenance', 'GRANT SELECT, DELETE, MAINTAIN ON sluice.records TO sluice_maintenance'),
      -- Where the feed ends, beyond which retention does not go.
      ('sluice_maintenance', 'GRANT SELECT ON sluice.epochs TO sluice_maintenance'),
      -- A job says how it went, and adds to what was said before.
      ('sluice_maintenance', 'GRANT SELECT, INSERT, UPDATE ON sluice.jobs TO sluice_maintenance'),
      -- It reads everything as a member of pg_read_all_data.
      ('sluice_backup',      'REVOKE ALL ON ALL TABLES IN SCHEMA sluice FROM sluice_backup'),
      ('sluice_backup',      'GRANT INSERT, UPDATE ON sluice.jobs TO sluice_backup'),
      ('sluice_reader',      'REVOKE ALL ON ALL TABLES IN SCHEMA sluice FROM sluice_reader'),
      ('sluice_reader',      'GRANT USAGE ON SCHEMA sluice TO sluice_reader'),
      ('sluice_reader',      'GRANT SELECT ON sluice.records, sluice.epochs TO sluice_reader')
    ) AS wanted (role, s)
    WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.role)
    -- A join has no order of its own: without this one, what was granted may be revoked afterwards.
    ORDER BY s LIKE 'GRANT%'
  LOOP
    EXECUTE statement;
  END LOOP;
END
$$;
