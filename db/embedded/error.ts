/** A sentence for the person who started the program: what happened, where, and what to do about it. */
export class EmbeddedError extends Error {
  override name = 'EmbeddedError'
}
