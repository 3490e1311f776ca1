import { setTimeout as sleep } from 'node:timers/promises'
import { tryConnection } from './connect.ts'
import { NotConnectedError } from './sqlstate.ts'
import type { Database } from './tables.ts'
import { UnsupportedServerError } from './unsupported.ts'

const PAUSE_MS = 500

/**
 * Waits until a login succeeds. A network policy admits a new pod only about a second after its start, so a job that connected
 * once would fail.
 * @param seconds how long it tries; 0: it does nothing
 * @param stop ends the wait
 * @throws the last error, if the time is over
 */
export async function awaitDatabase(db: Database, seconds: number, stop?: AbortSignal): Promise<void> {
  if (seconds === 0) return
  for (const deadline = performance.now() + seconds * 1000; !stop?.aborted; ) {
    try {
      await tryConnection(db)
      return
    } catch (error) {
      if (!(error instanceof NotConnectedError) || performance.now() >= deadline) throw error
      // Waiting does not change that.
      if (error.cause instanceof UnsupportedServerError) throw error
    }
    await sleep(PAUSE_MS, undefined, stop === undefined ? {} : { signal: stop }).catch(() => {})
  }
}
