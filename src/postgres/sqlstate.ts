import { UnconfirmedError } from './unconfirmed.ts'

/**
 * What a failure of the database means for the current write. Failures are distinguished by SQLSTATE (PostgreSQL manual,
 * appendix A), never by the message, which is translated and changes.
 */
interface Failure {
  /**
   * transient: the same statement may succeed later. row: a value is at fault, so the same statement always fails.
   * defect: anything else, such as a missing privilege, a missing table or a bug in Sluice.
   */
  kind: 'transient' | 'row' | 'defect'
  /** no: nothing was sent, or PostgreSQL reported a rollback. unknown: the commit may have succeeded. */
  written: 'no' | 'unknown'
  /** The database is unavailable for all statements, not only for this one. */
  unavailable: boolean
}

/** Rolled back because of concurrent transactions, or cancelled by someone. The server is healthy. */
const CONTENTION = /^(?:40001|40P01|55P03|57014)$/

/** The server has run out of a resource (connections, memory, disk). */
const EXHAUSTED = /^53...$/

/**
 * The session ended, perhaps after the commit and before the response. 25006: the server is a standby, perhaps the former
 * primary. 25P03, 25P04: PostgreSQL waited too long for Sluice during a transaction.
 */
const CUT_OFF = /^(?:08...|57P0[1-5]|25006|25P0[34])$/

/** Severities that end the session or the server. If the disk is full during a commit, the commit may or may not be on it. */
const ENDING: ReadonlySet<unknown> = new Set(['FATAL', 'PANIC'])

/**
 * A statement that ends with ERROR is rolled back: once a commit is in the write-ahead log, only a PANIC can follow. The server
 * translates the word (lc_messages), and an unknown word proves nothing.
 */
const ROLLED_BACK = 'ERROR'

/** Data exceptions, integrity constraints, program limits (54: an index row too long, a stack too deep). */
const ROW = /^(?:22|23|54)...$/

/** Error codes of Node.js sockets that mean a broken connection. */
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

/** A statement failed after an earlier one of the same write was committed. `cause` is its error. */
export class AfterCommitError extends Error {
  override name = 'AfterCommitError'

  constructor(cause: unknown) {
    super('a statement failed after an earlier one of the same write was committed', { cause })
  }
}

export function classifyFailure(error: unknown): Failure {
  if (error instanceof NotConnectedError) return { kind: 'transient', written: 'no', unavailable: true }
  if (error instanceof AfterCommitError) {
    const { kind, unavailable } = classifyFailure(error.cause)
    // Never `row`: the writer would send the halves under new bases, and would not recognise the committed rows as its own.
    return { kind: kind === 'row' ? 'defect' : kind, written: 'unknown', unavailable }
  }
  if (error instanceof UnconfirmedError) return { kind: 'transient', written: 'unknown', unavailable: false }
  const code = sqlstateOf(error)
  if (code === undefined || NETWORK.has(code) || isSystemError(error))
    return isDriverError(error)
      ? { kind: 'transient', written: 'unknown', unavailable: true }
      : { kind: 'defect', written: 'unknown', unavailable: false }
  const { severity } = error as { severity?: unknown }
  if (CUT_OFF.test(code) || ENDING.has(severity)) return { kind: 'transient', written: 'unknown', unavailable: true }
  const written = severity === ROLLED_BACK ? 'no' : 'unknown'
  if (CONTENTION.test(code)) return { kind: 'transient', written, unavailable: false }
  if (EXHAUSTED.test(code)) return { kind: 'transient', written, unavailable: true }
  return { kind: ROW.test(code) ? 'row' : 'defect', written, unavailable: false }
}

/** The SQLSTATE of a server error, or the code of a network error. */
export function sqlstateOf(error: unknown): string | undefined {
  if (error instanceof AfterCommitError) return sqlstateOf(error.cause)
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : undefined
}

/** An error of the operating system with any code: a network can fail in more ways than NETWORK lists. */
const isSystemError = (error: unknown): boolean => typeof (error as { syscall?: unknown }).syscall === 'string'

/**
 * The driver reports a lost connection as a plain Error without a code. Bugs in Sluice are TypeErrors and the like.
 */
function isDriverError(error: unknown): boolean {
  return error instanceof Error && (sqlstateOf(error) !== undefined || error.constructor === Error)
}
