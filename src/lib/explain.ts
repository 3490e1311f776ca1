import { systemAdvice } from './system-error.ts'

/**
 * The messages of an error and its causes in one line: only the cause of a connection error has the reason. An error of the
 * operating system also says what to do.
 */
export function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  // If a host has two addresses and both refuse the connection, Node's error has an empty message and the reasons in `errors`.
  const inner = error instanceof AggregateError ? error.errors[0] : error.cause
  const advice = systemAdvice(error)
  const own = `${messageOf(error).replace(/\.$/, '')}${advice === undefined ? '' : `. ${advice}`}`
  return inner === undefined || own === ''
    ? own || explain(inner)
    : own.includes(explain(inner))
      ? own
      : `${own}: ${explain(inner)}`
}

/** Messages of OpenSSL have its source file and a line break. Only their reason is for people. */
function messageOf(error: Error): string {
  const { library, reason } = error as { library?: string; reason?: string }
  return library === undefined || reason === undefined ? error.message : `${reason} (OpenSSL, ${library})`
}
