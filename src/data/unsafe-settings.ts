import { sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'

/** Settings that break a promise: what is wrong with the current value, and how to fix it. */
export const UNSAFE_SETTINGS = {
  fsync:
    'PostgreSQL does not wait for its disk. If its machine crashes, acknowledged records are lost and the database may be damaged. Set fsync = on',
  full_page_writes:
    'if its machine crashes, PostgreSQL cannot repair pages that were written only in part. Set full_page_writes = on, unless the file system never writes a page in part',
  synchronous_commit:
    'commits do not wait for the disk or for the standby. Sluice turns it on for its own statements, but other programs that write as this role may lose committed data. Run ALTER ROLE or ALTER DATABASE … RESET synchronous_commit',
  data_sync_retry:
    'PostgreSQL continues after its disk has failed to write data, and that data may be lost. Set data_sync_retry = off',
  track_activities:
    'Sluice cannot see that a writer has stalled. If the machine of a writer is lost, lists and exports show nothing new until TCP gives up. Set track_activities = on',
  transaction_read_only:
    'nothing can be stored: DATABASE_URL leads to a standby, or default_transaction_read_only is on. Set DATABASE_URL to the primary, or turn that setting off',
  zero_damaged_pages: 'PostgreSQL empties damaged pages instead of reporting them. Set zero_damaged_pages = off',
  ignore_checksum_failure:
    'PostgreSQL reads pages with a wrong checksum without an error. Set ignore_checksum_failure = off',
  TimeZone:
    'times in responses are wrong, because a pooler does not pass on the settings of Sluice. Run ALTER ROLE … SET TimeZone = UTC',
  DateStyle:
    'times in responses are wrong, because a pooler does not pass on the settings of Sluice. Run ALTER ROLE … SET DateStyle = ISO',
  default_transaction_isolation:
    'if a record is sent twice at the same time, a write fails and is repeated, because a pooler does not pass on the settings of Sluice. Run ALTER ROLE … SET default_transaction_isolation = "read committed"',
}

export type SettingName = keyof typeof UNSAFE_SETTINGS

/**
 * The names of the settings that are unsafe now. For synchronous_commit, the value that a new session of the role gets counts.
 */
export async function selectUnsafeSettings(db: Database): Promise<SettingName[]> {
  const { rows } = await sql<{ name: SettingName }>`
    SELECT name FROM pg_settings WHERE CASE name
      WHEN 'fsync'                         THEN setting = 'off'
      WHEN 'full_page_writes'              THEN setting = 'off'
      WHEN 'synchronous_commit'            THEN reset_val IN ('off', 'local', 'remote_write')
      WHEN 'data_sync_retry'               THEN setting = 'on'
      WHEN 'track_activities'              THEN setting = 'off'
      WHEN 'transaction_read_only'         THEN setting = 'on'
      WHEN 'zero_damaged_pages'            THEN setting = 'on'
      WHEN 'ignore_checksum_failure'       THEN setting = 'on'
      -- UTC has several names: initdb writes Etc/UTC if the machine uses it.
      WHEN 'TimeZone'                      THEN setting !~* '^(Etc/)?(UTC|UCT|Universal|Zulu|GMT|Greenwich)$'
      WHEN 'DateStyle'                     THEN setting NOT LIKE 'ISO%'
      WHEN 'default_transaction_isolation' THEN setting <> 'read committed'
      ELSE false END
    ORDER BY name`.execute(db)
  return rows.map(({ name }) => name)
}
