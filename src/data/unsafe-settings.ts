import { sql } from 'kysely'
import type { Database } from './schema.ts'

/** Settings under which a promise does not hold, and what an administrator does about each. */
export const UNSAFE_SETTINGS = {
  fsync:
    'PostgreSQL does not wait for its disk: when its machine crashes, acknowledged records are lost and the database may be damaged. Set fsync = on',
  full_page_writes:
    'when its machine crashes, PostgreSQL cannot repair pages that were half written. Set full_page_writes = on, unless the file system never writes half a page',
  synchronous_commit:
    'commits do not wait for the disk, or not for the standby. Sluice turns it on for its own; whatever else writes as this role may lose what it has committed. ALTER ROLE or ALTER DATABASE … RESET synchronous_commit',
  data_sync_retry:
    'PostgreSQL goes on after its disk has failed to store what was written, which may be lost then. Set data_sync_retry = off',
  track_activities:
    'nobody sees that a writer fell silent amid a write: when its machine is lost, lists and exports show nothing new until TCP gives up. Set track_activities = on',
  zero_damaged_pages: 'PostgreSQL empties damaged pages instead of reporting them. Set zero_damaged_pages = off',
  ignore_checksum_failure:
    'PostgreSQL reads pages whose checksum is wrong as if nothing had happened. Set ignore_checksum_failure = off',
  TimeZone:
    'times in answers are wrong, because a pooler does not pass on what Sluice sets for its connections. ALTER ROLE … SET TimeZone = UTC',
  DateStyle:
    'times in answers are wrong, because a pooler does not pass on what Sluice sets for its connections. ALTER ROLE … SET DateStyle = ISO',
  default_transaction_isolation:
    'records that are sent twice at once are refused for a while, because a pooler does not pass on what Sluice sets for its connections. ALTER ROLE … SET default_transaction_isolation = "read committed"',
}

export type SettingName = keyof typeof UNSAFE_SETTINGS

/** Those of them that are wrong as things are. Of synchronous_commit what a new session of the role begins with. */
export async function selectUnsafeSettings(db: Database): Promise<SettingName[]> {
  const { rows } = await sql<{ name: SettingName }>`
    SELECT name FROM pg_settings WHERE CASE name
      WHEN 'fsync'                         THEN setting = 'off'
      WHEN 'full_page_writes'              THEN setting = 'off'
      WHEN 'synchronous_commit'            THEN reset_val IN ('off', 'local', 'remote_write')
      WHEN 'data_sync_retry'               THEN setting = 'on'
      WHEN 'track_activities'              THEN setting = 'off'
      WHEN 'zero_damaged_pages'            THEN setting = 'on'
      WHEN 'ignore_checksum_failure'       THEN setting = 'on'
      -- By any of its names: initdb writes Etc/UTC where the machine has that.
      WHEN 'TimeZone'                      THEN setting !~* '^(Etc/)?(UTC|UCT|Universal|Zulu|GMT|Greenwich)$'
      WHEN 'DateStyle'                     THEN setting NOT LIKE 'ISO%'
      WHEN 'default_transaction_isolation' THEN setting <> 'read committed'
      ELSE false END
    ORDER BY name`.execute(db)
  return rows.map(({ name }) => name)
}
