/** Parameters of a URL, and the variables of libpq that give them a default. */
const DEFAULTS = { user: 'PGUSER', port: 'PGPORT', options: 'PGOPTIONS' } as const
const TLS_DEFAULTS = { sslmode: 'PGSSLMODE', sslnegotiation: 'PGSSLNEGOTIATION' } as const
const CERTIFICATE_DEFAULTS = { sslrootcert: 'PGSSLROOTCERT', sslcert: 'PGSSLCERT', sslkey: 'PGSSLKEY' } as const

const ENCRYPT = 'sslmode=verify-full encrypts the connection and checks the server'

/** Variables that ask for what a connection will not have, the values that do not ask for it, and what to do instead. */
const UNSUPPORTED: Record<string, [harmless: RegExp, instead: string]> = {
  PGCHANNELBINDING: [/^(disable|prefer)$/, ENCRYPT],
  PGGSSENCMODE: [/^(disable|prefer)$/, ENCRYPT],
  PGHOSTADDR: [/^$/, 'Write the address as the host of the URL'],
  // The driver reads it, libpq does not.
  PGREPLICATION: [/^$/, 'Sluice needs ordinary connections'],
  PGREQUIREAUTH: [/^$/, 'The method of the login is set in pg_hba.conf of the server'],
  PGREQUIREPEER: [/^$/, 'A folder of the socket that only PostgreSQL may write to has the same purpose'],
  PGREQUIRESSL: [/^0/, ENCRYPT],
  PGSERVICE: [/^$/, 'Write what the service file says into the URL'],
  PGSSLCERTMODE: [/^(disable|allow)$/, 'sslcert and sslkey are the client certificate'],
  PGSSLCRL: [/^$/, ENCRYPT],
  PGSSLCRLDIR: [/^$/, ENCRYPT],
  PGSSLMINPROTOCOLVERSION: [/^TLSv1(\.[12])?$/, 'The option --tls-min-v1.3 in NODE_OPTIONS has the same purpose'],
}

/**
 * Adds what a URL lacks and the environment has. The driver reads only some of these variables, and connects without encryption if
 * it does not know the value of PGSSLMODE. It reads PGPASSWORD itself.
 * https://www.postgresql.org/docs/18/libpq-envars.html
 * @param hasHost whether the URL names a host
 * @returns the variables that were used, by parameter
 */
export function addDefaults(url: URL, env: Record<string, string | undefined>, hasHost: boolean): Map<string, string> {
  const used = new Map<string, string>()
  const written = url.searchParams
  if (!hasHost) add({ host: 'PGHOST' })
  add(DEFAULTS)
  if (url.pathname.length <= 1 && env.PGDATABASE) url.pathname = `/${encodeURI(env.PGDATABASE)}`
  if (isSocket(url)) return used
  add(TLS_DEFAULTS)
  if (written.get('sslmode') !== 'disable') add(CERTIFICATE_DEFAULTS)
  return used

  function add(variables: Record<string, string>): void {
    for (const [parameter, variable] of Object.entries(variables)) {
      const value = env[variable]
      if (!value || written.has(parameter)) continue
      if ((parameter === 'user' && url.username !== '') || (parameter === 'port' && url.port !== '')) continue
      written.set(parameter, value)
      used.set(parameter, variable)
    }
  }
}

/** Whether the URL leads to a Unix socket, on which there is no TLS. */
export const isSocket = ({ hostname, searchParams }: URL): boolean =>
  (searchParams.get('host') ?? decodeURIComponent(hostname)).startsWith('/')

/** A variable that asks for what a connection will not have, and what to do instead. */
export function unsupportedVariable(
  env: Record<string, string | undefined>,
): { name: string; instead: string } | undefined {
  for (const [name, [harmless, instead]] of Object.entries(UNSUPPORTED))
    if (env[name] && !harmless.test(env[name])) return { name, instead }
  return undefined
}
