import type { Database } from '../data/schema.ts'
import type { Turnstile } from '../lib/turnstile.ts'
import type { Key } from '../operate/keys.ts'

/** Where something is read, and for whom. */
export interface Reader {
  db: Database
  /** To ask what a standby may not know yet. */
  primary: { db: Database; turnstile: Turnstile }
  /** In front of the connections of `db`. */
  turnstile: Turnstile
  key: Key
  /** Aborts when the client has left: then nothing more is read for it. */
  signal: AbortSignal
}

/** How long a read waits for its turn. After that it is refused: its client knows sooner that it should try later. */
const MAX_WAIT_MS = 5_000

/** Reads when a connection is free for this key. @throws Problem overloaded; the reason of the signal; what `read` throws */
export const inTurn = <T>({ turnstile, key, signal }: Reader, read: () => Promise<T>): Promise<T> =>
  turnstile.pass(key.id, { signal, maxMs: MAX_WAIT_MS }, read)

/** The same for a read whose answer has begun, and can no longer be refused: it waits for as long as it takes. */
export const inTurnAtLast = <T>({ turnstile, key, signal }: Reader, read: () => Promise<T>): Promise<T> =>
  turnstile.pass(key.id, { signal }, read)
