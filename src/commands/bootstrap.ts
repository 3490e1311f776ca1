import { ensureBootstrapKey } from '../access/manage-keys.ts'
import { type Config, loadConfig } from '../config.ts'
import { ensureDatabase, ensureRoles, type RoleName, roleNames } from '../postgres/roles.ts'
import { openCommandLog } from './command-log.ts'
import { withConnection } from './database.ts'

/** The environment of a process: names and values, as in process.env. */
type Environment = Record<string, string | undefined>

/**
 * `sluice bootstrap`: creates the roles and the database of DATABASE_URL, or corrects them. DATABASE_URL must be the superuser's.
 * It sets passwords that have changed, so running it again rotates them.
 * `--key`: instead makes sure that the API key SLUICE_BOOTSTRAP_KEY exists. DATABASE_URL must be the owner's.
 */
export async function runBootstrap({ key }: { key: boolean }, env: Environment = process.env): Promise<void> {
  const config = loadConfig(env)
  const logger = openCommandLog(config.LOG_LEVEL)
  if (key) {
    await withConnection(
      urlOf(config).href,
      (db) => ensureBootstrapKey(db, firstKey(config)),
      config.CONNECT_WAIT_SECONDS,
    )
    logger.info('the first API key exists')
    return
  }
  const passwords = readPasswords(env)
  const url = urlOf(config)
  const database = decodeURIComponent(url.pathname.slice(1))
  // The database `postgres` exists on every server. The other one may be missing.
  await withConnection(
    Object.assign(url, { pathname: '/postgres' }).href,
    async (db) => {
      await ensureRoles(db, passwords)
      await ensureDatabase(db, database, 'sluice_owner')
    },
    config.CONNECT_WAIT_SECONDS,
  )
  logger.info({ roles: roleNames, database }, 'the roles and the database exist')
}

// Not among the settings in config.ts, because no other command may get all passwords.
function readPasswords(env: Environment): Record<RoleName, string> {
  const named = roleNames.map((role) => [role, `${role.toUpperCase()}_PASSWORD`] as const)
  const missing = named.filter(([, name]) => !env[name]).map(([, name]) => name)
  if (missing.length > 0)
    throw new Error(`The passwords of the roles are missing: set ${missing.join(', ')}, for example ${RANDOM}`)
  const [, wrong] = named.find(([, name]) => !/^[\x21-\x7e]+$/.test(env[name] ?? '')) ?? []
  if (wrong !== undefined)
    throw new Error(
      `${wrong} has a character that is not visible ASCII, such as a space or a line break. Set it ${RANDOM}`,
    )
  return Object.fromEntries(named.map(([role, name]) => [role, env[name]])) as Record<RoleName, string>
}

const RANDOM = 'to the output of: openssl rand -hex 24'

function urlOf({ DATABASE_URL }: Config): URL {
  if (DATABASE_URL === undefined)
    throw new Error(
      'DATABASE_URL is not set. Set it to the URL of the superuser, such as postgres://postgres:password@host:5432/sluice. The embedded PostgreSQL needs no bootstrap',
    )
  const url = new URL(DATABASE_URL)
  if (url.pathname.length < 2)
    throw new Error(
      'DATABASE_URL does not contain a database name. Add the one to create: postgres://user:password@host:5432/sluice',
    )
  return url
}

function firstKey({ SLUICE_BOOTSTRAP_KEY }: Config): string {
  if (SLUICE_BOOTSTRAP_KEY === undefined)
    throw new Error(`SLUICE_BOOTSTRAP_KEY is not set. Set it to a key of your choice, for example ${RANDOM}`)
  return SLUICE_BOOTSTRAP_KEY
}
