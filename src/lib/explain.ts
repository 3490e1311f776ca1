/** The whole chain of a failure in one line: a connection error says why only in its cause. */
export function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  // Node gives a refused connection to a name with two addresses an empty message, and the reasons beside it.
  const inner = error instanceof AggregateError ? error.errors[0] : error.cause
  const own = error.message.replace(/\.$/, '')
  return inner === undefined || own === ''
    ? own || explain(inner)
    : own.includes(explain(inner))
      ? own
      : `${own}: ${explain(inner)}`
}
