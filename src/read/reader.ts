import type { Key } from '../access/key.ts'
import type { FairSemaphore } from '../lib/fair-semaphore.ts'
import type { Database } from '../postgres/tables.ts'

/** The database to read from, and the client that reads. */
export interface Reader {
  db: Database
  /** For checks that need the primary, because a standby may lag behind. */
  primary: { db: Database; semaphore: FairSemaphore }
  /** Limits access to the connections of `db`. */
  semaphore: FairSemaphore
  key: Key
  /** Aborts when the client disconnects or its key loses a right. Then nothing more is read for it. */
  signal: AbortSignal
  /** It waits for its turn without a time limit: its response has begun, so that it can no longer be refused. */
  isPatient?: boolean
}

/** How long a read waits for its turn. After that it is refused, so that the client learns early that it should retry later. */
const MAX_WAIT_MS = 5_000

/**
 * Reads as soon as a connection is free for this key. @throws Problem overloaded; the reason of the signal; what `read` throws
 */
export const inTurn = <T>({ semaphore, key, signal, isPatient }: Reader, read: () => Promise<T>): Promise<T> =>
  semaphore.run(key.id, { signal, ...(isPatient !== true && { maxMs: MAX_WAIT_MS }) }, read)
