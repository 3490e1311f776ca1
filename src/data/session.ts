import { sql } from 'kysely'

/**
 * What a connection relies on, whatever ALTER ROLE or ALTER DATABASE has set for others. Left to the administrator:
 * default_transaction_read_only, by which hosting services stop writers before the disk is full, and what only makes
 * statements slower.
 */
const SETTINGS = {
  // Answers are read as text: see Tables.
  TimeZone: 'UTC',
  DateStyle: 'ISO',
  // Names without a schema are PostgreSQL's own, operators too.
  search_path: 'pg_catalog',
  // A snapshot for each statement: an INSERT that meets another's row would fail instead of passing it over, and a comparison
  // would not see it.
  default_transaction_isolation: 'read committed',
  // How long something may take is ours to say.
  lock_timeout: '0',
  transaction_timeout: '0',
  idle_session_timeout: '0',
  // That no standby has confirmed a commit is a warning (unconfirmed.ts).
  client_min_messages: 'warning',
  // A connection that vanished amid a transaction leaves its locks behind, and what is sent again waits for them. Between
  // two statements of a transaction we do nothing else, so that silence is not ours. It does not count while a statement comes
  // in (bind.ts): a client that vanishes then is noticed by the other instances (silent-writers.ts).
  idle_in_transaction_session_timeout: '5s',
  // PostgreSQL notices within a minute that a client's machine is gone, instead of after two hours.
  tcp_keepalives_idle: '30',
  tcp_keepalives_interval: '10',
  tcp_keepalives_count: '3',
}

/**
 * What writes looks rows up by their identity. For a flush of thousands the planner would rather read a table of some
 * hundred thousand rows to its end, which takes far longer, and keep that plan while the table grows.
 */
const INDEX_ONLY = { enable_seqscan: 'off', enable_hashjoin: 'off', enable_mergejoin: 'off' }

/**
 * The startup parameter `options` of a connection. What an URL says there comes first, so that ours counts.
 * @param statementTimeoutMs 0: never
 * https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-CONNECT-OPTIONS
 */
export function sessionOptions(given: string, statementTimeoutMs: number, indexOnly: boolean): string {
  const settings = { ...SETTINGS, statement_timeout: String(statementTimeoutMs), ...(indexOnly ? INDEX_ONLY : {}) }
  const ours = Object.entries(settings).map(([name, value]) => `-c ${name}=${value.replaceAll(' ', '\\ ')}`)
  return [given, ...ours].join(' ').trim()
}

/** Commits wait for the disk, and for the standby where there is one. remote_apply waits for more, and stays. */
const SYNCHRONOUS = `CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END`

/**
 * What a connection says when it is new. Not among its options, which cannot tell `remote_apply` from what is too weak.
 */
export const SYNCHRONOUS_SESSION = `SELECT set_config('synchronous_commit', ${SYNCHRONOUS}, false)`

/**
 * For the select list of a statement that is acknowledged: its transaction is committed as promised. In each of them, because
 * a pooler (PgBouncer) gives a connection to many clients and drops what they have set. A commit that no standby has
 * confirmed is a warning, which must not be kept from us.
 */
export const SYNCHRONOUS_TRANSACTION = `set_config('synchronous_commit', ${SYNCHRONOUS}, true), set_config('client_min_messages', 'warning', true)`

export const synchronousTransaction = sql.raw(SYNCHRONOUS_TRANSACTION)
