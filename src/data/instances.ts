import { sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'

/** An instance of the API that is connected to the database. */
export interface Instance {
  name: string
  version: string
  /** When it connected, in milliseconds since 1970. */
  connectedAt: number
}

/** Begins the application_name of the connection that shows an instance to the others. Older versions used only this. */
const PREFIX = 'sluice-keys'

/** PostgreSQL cuts an application_name off after 63 bytes. */
const MAX_BYTES = 63

/** Of the instance on this host that listens on this port: its name, and the application_name that shows it. */
export function identify(version: string, host: string, port: number): { name: string; applicationName: string } {
  const start = `${PREFIX} ${version} `
  const end = `:${port}`
  const name = `${host.slice(0, MAX_BYTES - start.length - end.length)}${end}`
  return { name, applicationName: start + name }
}

/** All instances that use this database as this role. */
export async function selectInstances(db: Database): Promise<Instance[]> {
  const { rows } = await sql<{ application_name: string; connected: number }>`
    SELECT application_name, extract(epoch FROM backend_start)::float8 * 1000 AS connected FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND (application_name = ${PREFIX} OR starts_with(application_name, ${`${PREFIX} `}))
    ORDER BY application_name, backend_start`.execute(db)
  return rows.map(({ application_name, connected }) => {
    const [, version = 'older', name = 'unknown'] = application_name.split(' ')
    return { name, version, connectedAt: connected }
  })
}
