import { accessSync, constants } from 'node:fs'
import { addDefaults, isSocket, unsupportedVariable } from './libpq-variables.ts'

/** Parameters of a URL that the driver, or postgres/connect.ts, acts on. A misspelt sslmode would connect without encryption. */
const PARAMETERS = [
  'application_name',
  'host',
  'idle_in_transaction_session_timeout',
  'lock_timeout',
  'options',
  'password',
  'port',
  'sslcert',
  'sslkey',
  'sslmode',
  'sslnegotiation',
  'sslrootcert',
  'statement_timeout',
  'user',
]

/** https://www.postgresql.org/docs/18/libpq-ssl.html, and the driver's own `no-verify`, which is libpq's `require`. */
const SSL_MODES = ['disable', 'require', 'verify-ca', 'verify-full', 'no-verify']

const FORM = 'a URL like postgres://user:password@host:5432/database'
const ENCODED = '@ as %40, # as %23, / as %2F, ? as %3F, % as %25, a space as %20'

const ONE_HOST = 'Use one host, such as an address that always leads to the primary'

/** A URL of a database is wrong. The message continues a sentence that begins with the setting's name, and quotes no secret. */
export class DatabaseUrlError extends Error {
  override name = 'DatabaseUrlError'
}

/** What people set instead of the URL, and what to do. */
const HABITS: [written: RegExp, instead: string][] = [
  [/^\s*["'`\u2018-\u201f]/, 'Remove the quotes around it'],
  [/^\s/, 'Remove the white space at its beginning'],
  [/^jdbc:/i, 'Remove jdbc: at its beginning, and write the user and the password before the host'],
  [/^postgres(?:ql)?\+\w+:/i, 'Remove the plus sign and the name of the driver from its scheme'],
  [/^[A-Z_]+=/, 'Remove the name of the setting from its value'],
  [/^psql\s/, 'Remove psql at its beginning'],
  [/^(?:host|hostaddr|user|dbname|port)\s*=/, 'Write host, user and dbname as a URL'],
  [/^\$[{(\w]/, 'It is a variable that nothing replaced'],
  [/^(?:mysql|mariadb|mongodb|mssql|sqlserver|oracle|sqlite|file|redis)\b.*:/i, 'Sluice needs PostgreSQL'],
  [/^POSTGRES(?:QL)?:/i, 'Write its scheme in lower case, with two slashes after the colon'],
  [/^[^/]+@|^[\w.-]+(?::\d+)?\//, 'Write postgres:// at its beginning'],
]

/** What to do about a value that does not begin as a URL of PostgreSQL does, as a sentence without a full stop; undefined if it is not clear. */
export const schemeHint = (text: string): string | undefined => HABITS.find(([written]) => written.test(text))?.[1]

/**
 * Checks the URL of a database before anything connects: the driver ignores what it does not know, and reports the rest at each
 * new connection. No message quotes the user, the password or the host: a password with an unencoded character ends early, and the
 * rest of it would pass for one of them.
 * @param text begins with postgres:// or postgresql://
 * @param env the variables of libpq give defaults for what the URL does not say
 * @returns the same URL with these defaults, in a form that `new URL` reads as well
 * @throws DatabaseUrlError
 */
export function checkDatabaseUrl(text: string, env: Record<string, string | undefined>): string {
  if (/\s/.test(text)) {
    fail('contains white space, perhaps a line break at its end. Remove it; write a space in a password as %20')
  }
  const [, scheme = '', authority = '', path = '', query = '', fragment] =
    /^(\w+:\/\/)([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#(.*))?$/.exec(text) ?? []
  // In a valid URL, the first @ ends the password.
  const at = authority.indexOf('@')
  const misplaced = [
    at !== authority.lastIndexOf('@') && '@',
    fragment !== undefined && '#',
    path.includes('@') && '/',
    (query.includes('@') || (query !== '' && !query.split('&').every(isParameter))) && '?',
    /%(?![0-9a-f]{2})/i.test(authority) && '%',
  ].find((character) => character !== false)
  if (misplaced !== undefined) {
    fail(
      `contains an unencoded ${misplaced}, probably in its password. Percent-encode the user and the password: ${ENCODED}`,
    )
  }

  const host = authority.slice(at + 1)
  if (host.includes(',')) fail(`names several hosts. ${ONE_HOST}`)
  // libpq allows a user without a host, for a Unix socket: postgres://user@/database?host=/run/postgresql.
  const url = host === '' && at !== -1 ? `${scheme}${authority}localhost${path}${text.slice(text.indexOf('?'))}` : text
  if (host === '' && at !== -1 && !/(?:^|&)host=./.test(query) && !env.PGHOST) {
    fail(`has no host. It must be ${FORM}`)
  }
  if (!URL.canParse(url)) {
    fail(`is a value that is not shown here, but must be ${FORM}. ${hostHint(host)}`)
  }
  const parsed = new URL(url)
  for (const name of parsed.searchParams.keys()) {
    if (!PARAMETERS.includes(name))
      fail(`has the unknown parameter ${JSON.stringify(name)}. The parameters are ${PARAMETERS.join(', ')}`)
  }
  const variables = addDefaults(parsed, env, host !== '')
  const shown: Shown = (name) =>
    `${name}=${parsed.searchParams.get(name)}${variables.has(name) ? ` (from ${variables.get(name)})` : ''}`
  checkAddress(parsed.searchParams, shown)
  if (!isSocket(parsed)) checkTls(parsed.searchParams, shown)
  const variable = unsupportedVariable(env)
  if (variable !== undefined) {
    fail(
      `cannot be used while ${variable.name} is set to ${JSON.stringify(env[variable.name])}, which Sluice does not support. Unset it. ${variable.instead}`,
    )
  }
  return parsed.href
}

/** Why a host and its port are not valid. */
function hostHint(host: string): string {
  if (host.startsWith('[') && !host.includes(']')) return 'A ] is missing after the IPv6 address'
  if (host.startsWith('[') || host.split(':').length > 2)
    return 'An IPv6 address is written in brackets, such as [::1]:5432'
  if (/[^\w.:%~-]/.test(host)) return 'The host has a character that no host has'
  return 'The port must be a number up to 65535'
}

/** A parameter and its value, and the variable that it comes from if it is not in the URL. */
type Shown = (name: string) => string

function checkAddress(parameters: URLSearchParams, shown: Shown): void {
  if (parameters.get('host')?.includes(',')) fail(`has ${shown('host')}, which are several hosts. ${ONE_HOST}`)
  const port = parameters.get('port') ?? '5432'
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65535)
    fail(`has ${shown('port')}, but it must be one number from 1 to 65535`)
}

function checkTls(parameters: URLSearchParams, shown: Shown): void {
  const mode = parameters.get('sslmode')
  if (mode !== null && !SSL_MODES.includes(mode)) {
    const fallback =
      mode === 'prefer' || mode === 'allow' ? ' (Sluice does not fall back to an unencrypted connection.)' : ''
    fail(`has ${shown('sslmode')}. The values are ${SSL_MODES.join(', ')}.${fallback}`)
  }
  const negotiation = parameters.get('sslnegotiation')
  if (negotiation !== null && negotiation !== 'postgres' && negotiation !== 'direct') {
    fail(`has ${shown('sslnegotiation')}. The values are postgres, direct`)
  }
  if (negotiation === 'direct' && mode === 'disable') {
    fail(`has ${shown('sslnegotiation')}, which needs TLS, but also ${shown('sslmode')}. Use sslmode=verify-full`)
  }
  if (parameters.get('sslrootcert') === 'system') {
    fail(
      `has ${shown('sslrootcert')}. Leave it out: sslmode=verify-full uses the authorities that Node.js trusts, and with NODE_USE_SYSTEM_CA=1 those of the system`,
    )
  }
  if (mode === 'verify-ca' && !parameters.has('sslrootcert')) {
    fail(`has ${shown('sslmode')}, but not the file of the authority: add sslrootcert=FILE, or use sslmode=verify-full`)
  }
  for (const name of ['sslrootcert', 'sslcert', 'sslkey']) {
    const file = parameters.get(name)
    if (file === null) continue
    try {
      accessSync(file, constants.R_OK)
    } catch (error) {
      fail(`has ${shown(name)}, but that file cannot be read (${(error as NodeJS.ErrnoException).code})`)
    }
  }
}

const isParameter = (text: string) => /^[A-Za-z_]+=/.test(text)

function fail(message: string): never {
  throw new DatabaseUrlError(message)
}
