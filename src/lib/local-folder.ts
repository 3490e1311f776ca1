import { hash } from 'node:crypto'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Folder for the files of a local run, in the folder of the program. Git ignores it. */
export const LOCAL_FOLDER = fileURLToPath(new URL('../../.sluice', import.meta.url))

/**
 * `npm start` writes the first key of a database to this file. Each database has its own file: the name does not depend on the
 * user or the password of the URL.
 * @param databaseUrl absent: the embedded database
 */
export function keyFileOf(databaseUrl: string | undefined): string {
  if (databaseUrl === undefined) return join(LOCAL_FOLDER, 'key')
  const { hostname, port, pathname, username, searchParams } = new URL(databaseUrl)
  const host = searchParams.get('host') ?? decodeURIComponent(hostname)
  // Without a name, PostgreSQL uses the database with the name of the user.
  const database = pathname.length > 1 ? pathname : `/${searchParams.get('user') ?? username}`
  const address = `${host}:${searchParams.get('port') ?? (port || 5432)}${database}`
  return join(LOCAL_FOLDER, 'keys', hash('sha256', address, 'hex').slice(0, 12))
}
