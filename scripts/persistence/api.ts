import { setTimeout as sleep } from 'node:timers/promises'

/** One of ours: its id, and the content that is known before it is sent. */
export interface Sent {
  id: string
  data: { n: number; text: string }
}

export interface Api {
  /** Stores records, sending again until there is an answer for all. @throws when the answer is a refusal */
  store(source: string, records: Sent[]): Promise<void>
  /** All records of a source, by id, as they are stored now. */
  readAll(source: string): Promise<Map<string, unknown>>
}

/** How long one call is tried again: as long as a node may take to restart. */
const PATIENCE_MS = 15 * 60_000

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

  // biome-ignore lint/suspicious/noExplicitAny: the wire's JSON; each caller knows what it asked for
  async function call(path: string, init: RequestInit = {}): Promise<any> {
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
    for (const giveUp = Date.now() + PATIENCE_MS; ; await sleep(200)) {
      const response = await fetch(new URL(path, url), { ...init, headers }).catch((error) => {
        if (Date.now() > giveUp) throw error
      })
      if (response?.ok) return response.json()
      // Outages are what this is about; a refusal is an answer.
      if (response !== undefined && response.status < 500) {
        throw new Error(`${path} answered ${response.status}: ${(await response.text()).slice(0, 300)}`)
      }
      if (Date.now() > giveUp) throw new Error(`${path} answers ${response?.status ?? 'nothing'} since long`)
    }
  }
}
