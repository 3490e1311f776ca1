import { explain } from '../lib/explain.ts'
import { sqlstateOf } from './sqlstate.ts'
import { UnsupportedServerError } from './unsupported.ts'

const CERTIFICATE = (setting: string) =>
  `Name the file with the certificate of its authority: sslmode=verify-full&sslrootcert=FILE in ${setting}`
const ELSEWHERE = 'PGPASSWORD or the password file (PGPASSFILE, ~/.pgpass)'

/** What to do about a failed login, by SQLSTATE or by the code of Node.js. */
const ADVICE: Record<string, string | ((setting: string, hasPassword: boolean) => string)> = {
  '28P01': (setting, hasPassword) =>
    hasPassword
      ? `Correct the user or the password in ${setting}`
      : `${setting} has no password, so it comes from ${ELSEWHERE}. Correct it there, or the user in ${setting}`,
  '28000': 'The role must exist and have LOGIN ("sluice bootstrap" creates roles), and pg_hba.conf must admit it',
  '3D000': (setting) => `Create the database ("sluice bootstrap" does), or correct its name in ${setting}`,
  '42501': 'Run "sluice migrate" as the owner of the database, or GRANT CONNECT ON DATABASE to this role',
  '53300': 'Raise max_connections of PostgreSQL, or lower READ_CONNECTIONS and FLUSH_CONCURRENCY',
  ENOTFOUND: (setting) => `Correct the host in ${setting}, or repair name resolution`,
  EAI_AGAIN: 'Name resolution does not work at the moment',
  ECONNREFUSED: (setting) => `Start PostgreSQL, or correct the host and the port in ${setting}`,
  ENOENT: (setting) => `Start PostgreSQL, or correct the folder of its socket in ${setting}`,
  EACCES: 'This user has no access to the socket of PostgreSQL',
  DEPTH_ZERO_SELF_SIGNED_CERT: CERTIFICATE,
  SELF_SIGNED_CERT_IN_CHAIN: CERTIFICATE,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: CERTIFICATE,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: CERTIFICATE,
  ERR_TLS_CERT_ALTNAME_INVALID: (setting) => `Use the host name of the certificate in ${setting}, or sslmode=verify-ca`,
}

/** The driver's error for a password that is absent or empty has no code. */
const NO_PASSWORD = /client password must be a/

/**
 * One or two sentences: what happened, and what to do about it.
 * @param setting the name of the setting with the URL
 * @param url of the database
 */
export function describeLoginFailure(error: unknown, setting: string, url: string): string {
  const reason = explain(error)
  if (error instanceof UnsupportedServerError) return reason
  if (NO_PASSWORD.test(reason)) {
    return `no connection to PostgreSQL: it asks for a password, and ${setting} has none. Add it there, in ${ELSEWHERE}`
  }
  const { password, searchParams } = new URL(url)
  const advice = ADVICE[sqlstateOf(error instanceof AggregateError ? error.errors[0] : error) ?? '']
  const text = typeof advice === 'function' ? advice(setting, password !== '' || searchParams.has('password')) : advice
  return `no connection to PostgreSQL: ${reason}${text === undefined ? '' : `. ${text}`}`
}
