import { explain } from '../lib/explain.ts'
import { sqlstateOf } from './sqlstate.ts'
import { UnsupportedServerError } from './unsupported.ts'

const CERTIFICATE =
  'Name the file with the certificate of its authority: sslmode=verify-full&sslrootcert=FILE in DATABASE_URL'

/** What to do about a failed login, by SQLSTATE or by the code of Node.js. */
const ADVICE: Record<string, string> = {
  '28P01': 'Correct the user or the password in DATABASE_URL',
  '28000': 'The role must exist and have LOGIN ("sluice bootstrap" creates roles), and pg_hba.conf must admit it',
  '3D000': 'Create the database ("sluice bootstrap" does), or correct its name in DATABASE_URL',
  '42501': 'Run "sluice migrate" as the owner of the database, or GRANT CONNECT ON DATABASE to this role',
  '53300': 'Raise max_connections of PostgreSQL, or lower READ_CONNECTIONS and FLUSH_CONCURRENCY',
  ENOTFOUND: 'Correct the host in DATABASE_URL, or repair name resolution',
  EAI_AGAIN: 'Name resolution does not work at the moment',
  ECONNREFUSED: 'Start PostgreSQL, or correct the host and the port in DATABASE_URL',
  ENOENT: 'Start PostgreSQL, or correct the folder of its socket in DATABASE_URL',
  EACCES: 'This user has no access to the socket of PostgreSQL',
  DEPTH_ZERO_SELF_SIGNED_CERT: CERTIFICATE,
  SELF_SIGNED_CERT_IN_CHAIN: CERTIFICATE,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: CERTIFICATE,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: CERTIFICATE,
  ERR_TLS_CERT_ALTNAME_INVALID: 'Use the host name of the certificate in DATABASE_URL, or sslmode=verify-ca',
}

/** One or two sentences: what happened, and what to do about it. */
export function describeLoginFailure(error: unknown): string {
  const reason = explain(error)
  if (error instanceof UnsupportedServerError) return reason
  const advice = ADVICE[sqlstateOf(error instanceof AggregateError ? error.errors[0] : error) ?? '']
  return `no connection to PostgreSQL: ${reason}${advice === undefined ? '' : `. ${advice}`}`
}
