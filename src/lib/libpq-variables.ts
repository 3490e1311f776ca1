/** Parameters of a URL, and the variables of libpq that give them a default. */
const DEFAULTS = {
  sslmode: 'PGSSLMODE',
  sslrootcert: 'PGSSLROOTCERT',
  sslcert: 'PGSSLCERT',
  sslkey: 'PGSSLKEY',
  sslnegotiation: 'PGSSLNEGOTIATION',
} as const

/** Variables of libpq that ask for more security than the driver can give, and the values that do not. */
const UNSUPPORTED: Record<string, RegExp> = {
  PGCHANNELBINDING: /^(disable|prefer)$/,
  PGGSSENCMODE: /^(disable|prefer)$/,
  PGREQUIREAUTH: /^$/,
  PGREQUIREPEER: /^$/,
  PGREQUIRESSL: /^0/,
  PGSERVICE: /^$/,
  PGSSLCERTMODE: /^(disable|allow)$/,
  PGSSLCRL: /^$/,
  PGSSLCRLDIR: /^$/,
  PGSSLMINPROTOCOLVERSION: /^TLSv1(\.[12])?$/,
}

/**
 * Adds the parameters that a URL lacks and the environment has. The driver reads only some of these variables, and connects without
 * encryption if it does not know the value of PGSSLMODE. It reads PGUSER, PGPASSWORD, PGPORT and PGDATABASE itself.
 * https://www.postgresql.org/docs/18/libpq-envars.html
 * @returns the variables that were used, by parameter
 */
export function addDefaults(url: URL, env: Record<string, string | undefined>): Map<string, string> {
  const used = new Map<string, string>()
  const names = url.hostname === '' ? { host: 'PGHOST', ...DEFAULTS } : DEFAULTS
  for (const [parameter, variable] of Object.entries(names)) {
    const value = env[variable]
    if (value === undefined || value === '' || url.searchParams.has(parameter)) continue
    url.searchParams.set(parameter, value)
    used.set(parameter, variable)
  }
  return used
}

/** A variable that asks for what a connection will not have. */
export function unsupportedVariable(env: Record<string, string | undefined>): string | undefined {
  return Object.keys(UNSUPPORTED).find((name) => env[name] && !UNSUPPORTED[name]?.test(env[name]))
}
