import { type Piece, readEvents, readLines, readPage } from './feed-responses.ts'

/** A way to read GET /v1/feed. */
export interface Kind {
  name: string
  /** @param limit the largest number of records, if the response is one page */
  query(limit: number): Record<string, string>
  headers?: Record<string, string>
  /** Continues like the EventSource of a browser: the URL stays that of the first request. */
  isEventSource?: true
  read(response: Response): AsyncIterable<Piece>
}

export const KINDS: readonly Kind[] = [
  { name: 'pages', query: (limit) => ({ limit: String(limit) }), read: readPage },
  // Shorter than most faults, so that some waits end without a record.
  { name: 'long-poll', query: () => ({ live: 'long-poll', timeout: '2' }), read: readPage },
  { name: 'events', query: () => ({ live: 'sse' }), isEventSource: true, read: readEvents },
  { name: 'lines', query: () => ({ live: 'true' }), headers: { accept: 'application/x-ndjson' }, read: readLines },
]

/** The largest limit of a page. */
export const MAX_LIMIT = 1000
/** Before the first record. */
export const START = '-1'
/** A reader gives up a response after a random part of this time. By turns, so that some last as long as an outage. */
export const PATIENCE_MS = [100, 1_000, 15_000] as const

interface Request {
  port: number
  key: string
  /** Absent: records of all sources. */
  source?: string
  offset: string
  limit: number
  signal: AbortSignal
}

/** Continues from an offset. */
export function connect({ query, headers, isEventSource }: Kind, request: Request): Promise<Response> {
  const { port, key, source, offset, limit, signal } = request
  const start = { offset: isEventSource ? START : offset, ...(source === undefined ? {} : { source }) }
  const last: Record<string, string> = isEventSource && offset !== START ? { 'last-event-id': offset } : {}
  const all = { authorization: `Bearer ${key}`, ...headers, ...last }
  const search = new URLSearchParams({ ...start, ...query(limit) })
  return fetch(`http://127.0.0.1:${port}/v1/feed?${search}`, { headers: all, signal })
}
