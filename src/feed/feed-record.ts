import type { RecordFilter } from '../data/listing.ts'
import type { StoredRecord } from '../data/select-records.ts'
import { admits } from '../lib/source-prefix.ts'
import { cursorOf, openEvent, serverMembers } from '../read/write-record.ts'

/** What a reader of the feed may select. */
export type FeedFilter = Pick<RecordFilter, 'source' | 'sourcePrefix' | 'types' | 'subject' | 'allowedPrefixes'>

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

/** Equal for equal filters. */
export const nameOf = ({ source, sourcePrefix, types, subject, allowedPrefixes }: FeedFilter): string =>
  JSON.stringify([source, sourcePrefix, types, subject, allowedPrefixes])

/** Whether a record matches the filter. data/listing.ts does the same in SQL. */
export function isMatch(filter: FeedFilter, { source, type, subject }: FeedRecord): boolean {
  return (
    (filter.source === undefined || filter.source === source) &&
    (filter.sourcePrefix === undefined || source.startsWith(filter.sourcePrefix)) &&
    (filter.types === undefined || filter.types.includes(type)) &&
    (filter.subject === undefined || filter.subject === subject) &&
    admits(filter.allowedPrefixes, source)
  )
}
