/** An error with a message for the user: what happened, where, and what to do. */
export class EmbeddedError extends Error {
  override name = 'EmbeddedError'
}
