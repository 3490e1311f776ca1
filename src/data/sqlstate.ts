import { UnconfirmedError } from './unconfirmed.ts'

/**
 * What a failure of the database means for what was being written. Told apart by SQLSTATE (PostgreSQL manual,
 * appendix A), never by message, which is translated and changes.
 */
export interface Failure {
  /**
   * transient: the same statement may succeed later. row: the values are at fault, the same statement always fails.
   * defect: neither, such as a missing privilege, a missing table, a defect of ours.
   */
  kind: 'transient' | 'row' | 'defect'
  /** no: nothing was sent, or PostgreSQL said that it rolled back. Whatever else happened, the commit may have succeeded. */
  written: 'no' | 'unknown'
  /** The database cannot serve anybody now, not this statement alone. */
  away: boolean
}

/** Rolled back because of what others did at the same time, or cancelled by them; the server is well. */
const CONTENTION = /^(?:40001|40P01|55P03|57014)$/

/** The server lacks what it needs (connections, memory, disk). */
const EXHAUSTED = /^53...$/

/**
 * The session ended; perhaps after the commit, before the answer. 25006: a standby, which the primary became. 25P03,
 * 25P04: PostgreSQL waited too long for us amid a transaction.
 */
const CUT_OFF = /^(?:08...|57P0[1-5]|25006|25P0[34])$/

/** Of the session, or of the whole server: when the disk is full amid a commit, nobody knows whether that is on it. */
const ENDING: ReadonlySet<unknown> = new Set(['FATAL', 'PANIC'])

/**
 * A statement that ends in an ERROR is rolled back; once a commit is in the log, nothing short of a PANIC can fail. The
 * server translates the word (lc_messages), and one that we do not know proves nothing.
 */
const ROLLED_BACK = 'ERROR'

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

/** A statement failed after an earlier one of the same write was committed. The cause says why it failed. */
export class AfterCommitError extends Error {
  override name = 'AfterCommitError'

  constructor(cause: unknown) {
    super('a statement failed after another one of the same write was committed', { cause })
  }
}

export function classifyFailure(error: unknown): Failure {
  if (error instanceof NotConnectedError) return { kind: 'transient', written: 'no', away: true }
  if (error instanceof AfterCommitError) {
    const { kind, away } = classifyFailure(error.cause)
    // Never `row`: the writer would send the halves under new bases, which do not recognise the rows that are committed.
    return { kind: kind === 'row' ? 'defect' : kind, written: 'unknown', away }
  }
  if (error instanceof UnconfirmedError) return { kind: 'transient', written: 'unknown', away: false }
  const code = sqlstateOf(error)
  if (code === undefined || NETWORK.has(code) || isSystemError(error))
    return isDriverError(error)
      ? { kind: 'transient', written: 'unknown', away: true }
      : { kind: 'defect', written: 'unknown', away: false }
  const { severity } = error as { severity?: unknown }
  if (CUT_OFF.test(code) || ENDING.has(severity)) return { kind: 'transient', written: 'unknown', away: true }
  const written = severity === ROLLED_BACK ? 'no' : 'unknown'
  if (CONTENTION.test(code)) return { kind: 'transient', written, away: false }
  if (EXHAUSTED.test(code)) return { kind: 'transient', written, away: true }
  return { kind: ROW.test(code) ? 'row' : 'defect', written, away: false }
}

/** The five characters of an error of the server, or the name of one of the network. */
export function sqlstateOf(error: unknown): string | undefined {
  if (error instanceof AfterCommitError) return sqlstateOf(error.cause)
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : undefined
}

/** Of the operating system, by whatever name: the network of the machine can fail in more ways than NETWORK lists. */
const isSystemError = (error: unknown): boolean => typeof (error as { syscall?: unknown }).syscall === 'string'

/**
 * The driver reports a lost connection as a bare Error without a code. Defects of ours are TypeErrors and the like.
 */
function isDriverError(error: unknown): boolean {
  return error instanceof Error && (sqlstateOf(error) !== undefined || error.constructor === Error)
}
