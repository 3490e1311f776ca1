/**
 * What a failure of the database means for what was being written. Told apart by SQLSTATE (PostgreSQL manual,
 * appendix A), never by message, which is translated and changes.
 */
export type Failure =
  /** The same statement may succeed later. `away`: the database cannot serve now, and not this statement alone. */
  | { kind: 'transient'; written: 'no' | 'unknown'; away: boolean }
  /** The values are at fault: the same statement fails for ever. */
  | { kind: 'row' }
  /** Neither: a missing privilege, a missing table, a defect of ours. */
  | { kind: 'defect' }

/** Rolled back because of what others did at the same time; the server is well. */
const CONTENTION = /^(?:40001|40P01|55P03)$/

/** The server lacks what it needs (connections, memory, disk). */
const EXHAUSTED = /^53...$/

/**
 * The session ended; perhaps after the commit, before the answer. 25006: a standby, which the primary became. 25P03: it
 * did not hear from us amid a transaction.
 */
const CUT_OFF = /^(?:08...|57P0[1-5]|25006|25P03)$/

/** Of the session, or of the whole server: when the disk is full amid a commit, nobody knows whether that is on it. */
const ENDING: ReadonlySet<unknown> = new Set(['FATAL', 'PANIC'])

/** Data exceptions, integrity constraints, program limits (54: an index row too long, a stack too deep). */
const ROW = /^(?:22|23|54)...$/

/** Errors of Node's sockets and of the driver itself that mean a broken connection. */
const NETWORK: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ECONNABORTED',
])

/** Connecting failed: the statement was never sent. */
export class NotConnectedError extends Error {
  override name = 'NotConnectedError'
}

export function classifyFailure(error: unknown): Failure {
  if (error instanceof NotConnectedError) return { kind: 'transient', written: 'no', away: true }
  const code = sqlstateOf(error)
  if (code === undefined || NETWORK.has(code))
    return isDriverError(error) ? { kind: 'transient', written: 'unknown', away: true } : { kind: 'defect' }
  if (CONTENTION.test(code)) return { kind: 'transient', written: 'no', away: false }
  const { severity } = error as { severity?: unknown }
  if (CUT_OFF.test(code) || ENDING.has(severity)) return { kind: 'transient', written: 'unknown', away: true }
  // The server translates what it calls an ERROR (lc_messages). One whose word we don't know is not believed.
  if (EXHAUSTED.test(code)) return { kind: 'transient', written: severity === 'ERROR' ? 'no' : 'unknown', away: true }
  if (ROW.test(code)) return { kind: 'row' }
  return { kind: 'defect' }
}

/** The five characters of an error of the server, or the name of one of the network. */
export function sqlstateOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : undefined
}

/**
 * The driver reports a lost connection as a bare Error without a code. Defects of ours are TypeErrors and the like.
 */
function isDriverError(error: unknown): boolean {
  return error instanceof Error && (sqlstateOf(error) !== undefined || error.constructor === Error)
}
