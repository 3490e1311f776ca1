import { sql } from 'kysely'

/**
 * The settings that a connection relies on, whatever ALTER ROLE or ALTER DATABASE set. Two kinds of settings are left to the
 * administrator: default_transaction_read_only, with which hosting services stop writers before the disk is full, and settings
 * that only make statements slower.
 */
const SETTINGS = {
  // Results are read as text: see Tables.
  TimeZone: 'UTC',
  DateStyle: 'ISO',
  // Names and operators without a schema are PostgreSQL's own.
  search_path: 'pg_catalog',
  // Each statement needs its own snapshot. Otherwise an INSERT that conflicts with a concurrent row would fail instead of
  // skipping it, and the comparison would not see that row.
  default_transaction_isolation: 'read committed',
  // Sluice has its own time limits.
  lock_timeout: '0',
  transaction_timeout: '0',
  idle_session_timeout: '0',
  // A commit that no standby has confirmed is reported as a warning (unconfirmed.ts).
  client_min_messages: 'warning',
  // A client that disappears during a transaction leaves locks behind, and retries wait for them. Sluice does nothing else
  // between two statements of a transaction, so a long idle time means that the client has disappeared. The timeout does not apply
  // while a statement is arriving (bind.ts): a client that disappears then is noticed by other instances (data/stalled-writers.ts).
  idle_in_transaction_session_timeout: '5s',
  // PostgreSQL notices within a minute, not after two hours, that the machine of a client has disappeared.
  tcp_keepalives_idle: '30',
  tcp_keepalives_interval: '10',
  tcp_keepalives_count: '3',
}

/**
 * Writers look rows up by identity. For a flush of thousands of rows, the planner would scan a table of some hundred thousand
 * rows, which takes far longer, and would keep that plan while the table grows.
 */
const BY_IDENTITY = { enable_seqscan: 'off', enable_hashjoin: 'off', enable_mergejoin: 'off' }

/**
 * The feed reads a few records after a position, in the order of an index. Without statistics, or for a filter that matches few
 * records, the planner would fetch all records after the position and sort them. These statements take milliseconds, even if the
 * planner expects many rows: compiling them (jit) would take longer, and so would planning each one for its values.
 */
const IN_ORDER = {
  enable_seqscan: 'off',
  enable_bitmapscan: 'off',
  enable_sort: 'off',
  enable_incremental_sort: 'off',
  jit: 'off',
  plan_cache_mode: 'force_generic_plan',
}

/** How to find rows. */
const PLANS = { byIdentity: BY_IDENTITY, inOrder: IN_ORDER, free: {} }

export type Plan = keyof typeof PLANS

/** Commits wait for the disk, and for the synchronous standby if there is one. remote_apply is stronger, so it is kept. */
const SYNCHRONOUS = `CASE WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'remote_apply' THEN 'remote_apply' ELSE 'on' END`

/**
 * Gives a new connection its settings, which override those of the role and the `options` of the URL. They are no startup
 * parameters: a pooler (PgBouncer) refuses those, and the value of synchronous_commit depends on the current one. Names are
 * qualified, because the search path is still the role's.
 * @param backend nothing is set in a session with another process id
 * @param statementTimeoutMs 0: none
 */
export function setUpStatement(statementTimeoutMs: number, plan: Plan, backend?: number): string {
  const settings = { ...SETTINGS, statement_timeout: String(statementTimeoutMs), ...PLANS[plan] }
  const values = Object.entries(settings).map(([name, value]) => `pg_catalog.set_config('${name}', '${value}', false)`)
  return `SELECT pg_catalog.set_config('synchronous_commit', ${SYNCHRONOUS}, false), ${values.join(', ')}${
    backend === undefined ? '' : ` WHERE pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) ${backend}`
  }`
}

/**
 * For the select list of each statement whose result is acknowledged: its transaction is committed as promised. The session
 * setting is not enough, because a pooler (PgBouncer) shares a connection between clients and resets their settings. Warnings
 * must be on, because they report a commit that no standby has confirmed.
 */
export const SYNCHRONOUS_TRANSACTION = `set_config('synchronous_commit', ${SYNCHRONOUS}, true), set_config('client_min_messages', 'warning', true)`

export const synchronousTransaction = sql.raw(SYNCHRONOUS_TRANSACTION)
