import { setTimeout as sleep } from 'node:timers/promises'
import { explain } from '../../src/lib/explain.ts'

/** A record that the check sends. Its content is known in advance. */
export interface Sent {
  id: string
  data: { n: number; text: string }
}

export interface Api {
  /** Sends records until all are stored. @throws if the request is refused or a record is not stored */
  store(source: string, records: Sent[]): Promise<void>
  /** Returns the `data` of all records of a source that are stored now, by id. */
  readAll(source: string): Promise<Map<string, unknown>>
}

/** How long the first request is retried: a port-forward that was started a moment ago takes a second. */
const FIRST_MS = 10_000
/** How long every other request is retried. A node may take this long to restart. */
const RETRY_MS = 15 * 60_000
/** A failure that lasts longer is reported, and again each time after that. */
const REPORT_MS = 10_000
/** For one request: longer than the API holds it during an outage. */
const TIMEOUT_MS = 60_000

/**
 * @param say shows the progress
 * @throws if the API cannot be reached within seconds, or refuses the key
 */
export async function openApi(url: string, key: string, say: (line: string) => void): Promise<Api> {
  await call('/v1/records?limit=1', {}, FIRST_MS)
  return { store, readAll }

  async function store(source: string, records: Sent[]): Promise<void> {
    const body = JSON.stringify(records.map((record) => ({ source, type: 'sluice.persistence', ...record })))
    const { results } = await call('/v1/records', { method: 'POST', body })
    const refused = results.filter(({ status }: { status: string }) => status !== 'created' && status !== 'duplicate')
    if (results.length !== records.length || refused.length > 0) {
      throw new Error(`The API did not store all records: ${JSON.stringify(refused.slice(0, 3))}`)
    }
  }

  async function readAll(source: string): Promise<Map<string, unknown>> {
    const found = new Map<string, unknown>()
    for (let cursor: string | null = ''; cursor !== null; ) {
      const query = new URLSearchParams({ source, order: 'asc', limit: '1000', ...(cursor && { cursor }) })
      const page = await call(`/v1/records?${query}`)
      for (const { id, data } of page.records) found.set(id, data)
      cursor = page.next
    }
    return found
  }

  // biome-ignore lint/suspicious/noExplicitAny: JSON of the API; each caller knows the shape of its response
  async function call(path: string, init: RequestInit = {}, retryMs = RETRY_MS): Promise<any> {
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
    const begin = Date.now()
    for (let reported = begin; ; await sleep(200)) {
      const signal = AbortSignal.timeout(Math.min(TIMEOUT_MS, retryMs))
      const response = await fetch(new URL(path, url), { ...init, headers, signal }).catch((error) => error as Error)
      if (response instanceof Response && response.ok) return response.json()
      // Only outages are retried. A refusal is final.
      if (response instanceof Response && response.status < 500) {
        throw new Error(`${path} returned ${response.status}: ${(await response.text()).slice(0, 300)}`)
      }
      const reason = response instanceof Response ? `status ${response.status}` : explain(response)
      const seconds = Math.round((Date.now() - begin) / 1000)
      if (Date.now() - begin > retryMs) throw new Error(`${url} has not been available for ${seconds} s: ${reason}`)
      if (Date.now() - reported < REPORT_MS) continue
      say(`${url} has not been available for ${seconds} s (${reason}): trying again`)
      reported = Date.now()
    }
  }
}
