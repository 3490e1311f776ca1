import { setTimeout as sleep } from 'node:timers/promises'

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

/** How long a request is retried. A node may take this long to restart. */
const RETRY_MS = 15 * 60_000

export function openApi(url: string, key: string): Api {
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
  async function call(path: string, init: RequestInit = {}): Promise<any> {
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
    for (const deadline = Date.now() + RETRY_MS; ; await sleep(200)) {
      const response = await fetch(new URL(path, url), { ...init, headers }).catch((error) => {
        if (Date.now() > deadline) throw error
      })
      if (response?.ok) return response.json()
      // Only outages are retried. A refusal is final.
      if (response !== undefined && response.status < 500) {
        throw new Error(`${path} returned ${response.status}: ${(await response.text()).slice(0, 300)}`)
      }
      if (Date.now() > deadline) {
        const last = response === undefined ? 'no response' : `status ${response.status}`
        throw new Error(`${path} has failed for ${RETRY_MS / 60_000} minutes: ${last}`)
      }
    }
  }
}
