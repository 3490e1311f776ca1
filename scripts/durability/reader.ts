import { setTimeout as sleep } from 'node:timers/promises'
import type { Observer } from './observer.ts'
import { parseExactly, recogniseShown, type Stored } from './stored.ts'

interface ReaderOptions {
  /** The port for the next request. */
  port(): number
  key: string
  source: string
}

/** Follows the records of a source in ascending pages. Each page starts at the cursor of the last record. */
export interface Reader extends Observer {
  /** Resolves with true when it has seen all records with these ids, or with false when it gets no further for a minute. */
  caughtUp(ids: Iterable<string>): Promise<boolean>
  stop(): Promise<void>
}

const STALLED_MS = 60_000
const PAUSE_MS = 50

export function startReader({ port, key, source }: ReaderOptions): Reader {
  const shown: Stored[] = []
  let stopping = false
  const running = run()
  return { name: 'list', shown, wrong: [], caughtUp, stop }

  async function run(): Promise<void> {
    while (!stopping) {
      try {
        const page = await readPage(shown.at(-1)?.cursor)
        shown.push(...page)
        if (page.length > 0) continue
      } catch {
        // During an outage, a reader gets errors, and tries again.
      }
      await sleep(PAUSE_MS)
    }
  }

  async function readPage(cursor: string | undefined): Promise<Stored[]> {
    const query = new URLSearchParams({
      source,
      order: 'asc',
      limit: '1000',
      ...(cursor === undefined ? {} : { cursor }),
    })
    const headers = { authorization: `Bearer ${key}` }
    const signal = AbortSignal.timeout(STALLED_MS)
    const response = await fetch(`http://127.0.0.1:${port()}/v1/records?${query}`, { headers, signal })
    if (!response.ok) throw new Error(await response.text())
    const { records } = parseExactly(await response.text()) as { records: Parameters<typeof recogniseShown>[0][] }
    return records.map(recogniseShown)
  }

  async function caughtUp(ids: Iterable<string>): Promise<boolean> {
    const missing = new Set(ids)
    let seen = 0
    for (let deadline = Date.now() + STALLED_MS; Date.now() < deadline; await sleep(PAUSE_MS)) {
      if (shown.length > seen) deadline = Date.now() + STALLED_MS
      for (const { id } of shown.slice(seen)) missing.delete(id)
      seen = shown.length
      if (missing.size === 0) return true
    }
    return false
  }

  async function stop(): Promise<void> {
    stopping = true
    await running
  }
}
