import type { Key } from '../access/key.ts'
import type { StatsFilter } from '../data/select-stats.ts'
import { readTextParameter, readTimeParameter } from '../read/filter.ts'
import { refuseParameter } from '../read/refuse-parameter.ts'
import { BUCKET_SECONDS, MAX_BUCKETS, MAX_ENTRIES, type StatsQuery } from '../schemas/stats.ts'

/** How many buckets there are if the request does not say where they begin. */
const DEFAULT_BUCKETS = { minute: 60, hour: 7 * 24, day: 90 }
/** Of types or sources. */
const DEFAULT_LIMIT = 20

/**
 * Reads the query, and moves `from` to the beginning of its bucket.
 * @param now in milliseconds since 1970
 * @throws Problem invalid_query
 */
export function readStatsQuery(query: StatsQuery, key: Key, now: number): StatsFilter {
  const { bucket = 'hour', by } = query
  const length = BUCKET_SECONDS[bucket] * 1000
  const end = startOf(now, length) + length
  const until = timeOf('until', query.until) ?? end
  const earliest = Math.max(FIRST, Math.min(until, end) - DEFAULT_BUCKETS[bucket] * length)
  const from = startOf(timeOf('from', query.from) ?? earliest, length)
  if (from >= until) refuseParameter('from', 'must be before until. Both are times, and until is exclusive')
  const count = Math.ceil((until - from) / length)
  if (count > MAX_BUCKETS)
    refuseParameter(
      'bucket',
      `must be longer, or the time shorter: this would be ${count} buckets, and a response has at most ${MAX_BUCKETS}`,
    )
  // Those of the others are one more.
  const most = Math.max(1, Math.floor(MAX_ENTRIES / count) - 1)
  const limit = query.limit ?? Math.min(DEFAULT_LIMIT, most)
  if (by !== undefined && limit > most)
    refuseParameter(
      'limit',
      `must be at most ${most} for ${count} buckets. For more, choose a longer bucket or a shorter time`,
    )
  return {
    bucket,
    from: new Date(from).toISOString(),
    until: new Date(until).toISOString(),
    by,
    limit,
    type: readTextParameter('type', query.type),
    source: readTextParameter('source', query.source),
    sourcePrefix: readTextParameter('sourcePrefix', query.sourcePrefix),
    allowedPrefixes: key.sourcePrefixes,
  }
}

/** What RFC 3339 can express, and PostgreSQL as well. */
const FIRST = Date.parse('0001-01-01T00:00:00Z')

export const countBuckets = ({ from, until }: StatsFilter, bucket: StatsFilter['bucket']): number =>
  Math.ceil((Date.parse(until) - Date.parse(from)) / (BUCKET_SECONDS[bucket] * 1000))

/** About the memory of a response, for the reservation before it is read: a bucket with numbers, and with a name. */
export const responseBytes = (filter: StatsFilter): number =>
  countBuckets(filter, filter.bucket) * (filter.by === undefined ? 120 : (filter.limit + 1) * 300)

const startOf = (time: number, length: number) => Math.floor(time / length) * length

function timeOf(name: string, value: string | undefined): number | undefined {
  const utc = readTimeParameter(name, value)
  return utc === undefined ? undefined : Date.parse(utc)
}
