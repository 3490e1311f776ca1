import type { StoredRecord } from '../data/select-records.ts'
import { cursorOf, openEvent, serverMembers } from '../read/write-record.ts'

/** A record, ready to be written for any reader. */
export interface FeedRecord {
  offset: string
  source: string
  type: string
  subject: string | null
  /** The event in JSON without its last brace, on one line. */
  event: string
  /** The rest of a record in JSON: what the server adds, and the brace. */
  rest: string
}

export const toFeedRecord = (record: StoredRecord): FeedRecord => ({
  offset: cursorOf(record),
  source: record.source,
  type: record.type,
  subject: record.subject,
  // Payloads are stored as they were sent and may contain newlines. In JSON these are white space, because strings cannot contain
  // them. In lines and in SSE they would end the record.
  event: openEvent(record).replaceAll(/[\r\n]/g, ' '),
  rest: serverMembers(record),
})

/** The forms of a record in a page. */
export const WRITE = {
  record: ({ event, rest }: FeedRecord): string => event + rest,
  cloudevent: ({ event }: FeedRecord): string => `${event}}`,
}

export type Shape = keyof typeof WRITE

/** In characters. */
export const sizeOf = ({ event, rest }: FeedRecord): number => event.length + rest.length
