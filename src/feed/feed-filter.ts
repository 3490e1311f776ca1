import type { RecordFilter } from '../data/listing.ts'
import { compilePrefixes } from '../lib/source-prefix.ts'
import type { FeedRecord } from './feed-record.ts'

/** What a reader of the feed may select. */
type Selection = Pick<RecordFilter, 'source' | 'sourcePrefix' | 'types' | 'subject' | 'allowedPrefixes'>

/** A selection, prepared for many records. */
export interface FeedFilter {
  /** For the database. */
  selection: Selection
  /** Equal for equal filters. */
  name: string
  /** Whether a record matches. data/listing.ts does the same in SQL. */
  isMatch: (record: FeedRecord) => boolean
}

export function toFilter(selection: Selection): FeedFilter {
  const { source, sourcePrefix, types, subject, allowedPrefixes } = selection
  const wanted = types && new Set(types)
  const isAllowed = isAllowedBy(allowedPrefixes)
  return {
    selection,
    name: JSON.stringify([source, sourcePrefix, types, subject, allowedPrefixes]),
    isMatch: (record) =>
      (source === undefined || source === record.source) &&
      (wanted === undefined || wanted.has(record.type)) &&
      (subject === undefined || subject === record.subject) &&
      (sourcePrefix === undefined || record.source.startsWith(sourcePrefix)) &&
      isAllowed(record),
  }
}

/** Which keys may read a record, by their prefixes. */
const allowed = new WeakMap<FeedRecord, Map<string, boolean>>()

/** A key may have many prefixes, and many readers: its right to read a record is decided once for all of them. */
function isAllowedBy(prefixes: readonly string[]): FeedFilter['isMatch'] {
  if (prefixes.length === 0) return () => true
  const name = prefixes.join('\n')
  const admits = compilePrefixes(prefixes)
  return (record) => {
    const known = allowed.get(record) ?? new Map<string, boolean>()
    allowed.set(record, known)
    const isAllowed = known.get(name) ?? admits(record.source)
    known.set(name, isAllowed)
    return isAllowed
  }
}
