import { type RawBuilder, sql } from 'kysely'
import { HORIZON, inFeedOrder, SETTLED } from './listing.ts'

/** Up to this number, the unread records of a consumer are counted, in one pass over the newest records for all consumers. */
const COUNTED = 10_000

/**
 * Above that number, they are estimated from a sample of about this many pages, evenly spaced: 4 MiB, whatever the size of the table.
 * The distance between the pages is a power of two, so they stay the same, and in the cache, until the table has doubled.
 *
 * Other estimates fail in cases that test/data/consumer-lag.test.ts has: without ANALYZE, and after retention has deleted records and new
 * ones are stored on their pages.
 * - The planner's estimate (EXPLAIN) knows nothing of the records since the last ANALYZE.
 * - The distance in pages between the first unread record and the last one, times the records per page, can be negative: once retention
 *   has deleted records, the order of pages is no longer that of the feed.
 * - TABLESAMPLE SYSTEM chooses its pages at random, so its error is several times as large with as many pages.
 */
const SAMPLED_PAGES = 500

/** After every position. */
const LAST = {
  epoch: sql`2147483647`,
  xid: sql`'18446744073709551615'::xid8`,
  n: sql`9223372036854775807`,
}

/** The lag of a consumer, as a column of `withLag`. */
export interface LagColumns {
  /** Records of the feed after the consumer's position. */
  records: number
  is_exact: boolean
  /** Age of the oldest of them by the database's clock; 0 if there is none. */
  seconds: number
}

/**
 * Adds the lag to consumers, in one statement that passes over each record, and over each deleted one that VACUUM may not remove yet, a
 * fixed number of times, however many consumers there are.
 * @param chosen a query of whole rows of sluice.consumers
 * @param count whether the query returns at most one consumer
 */
export function withLag<Row>(chosen: RawBuilder<Row>, count: keyof typeof UNREAD): RawBuilder<Row & LagColumns> {
  const unread = UNREAD[count]
  return sql<Row & LagColumns>`
  WITH chosen AS MATERIALIZED (
    ${chosen}
  ), horizon AS MATERIALIZED (
    ${HORIZON}
  ), newest AS (
    SELECT newest.* FROM horizon, LATERAL (
      SELECT epoch, xid, n FROM sluice.records
      WHERE ${SETTLED} AND (epoch, xid, n) > (SELECT epoch, xid, n FROM chosen ORDER BY epoch, xid, n LIMIT 1)
      ${inFeedOrder('records', 'desc')} LIMIT ${COUNTED + 1}
    ) AS newest
  ), counted AS MATERIALIZED (
    ${unread('newest')}
  ), sample AS (
    SELECT pages, step, pages / ceil(pages / step) AS factor
    FROM (SELECT pg_relation_size('sluice.records') / current_setting('block_size')::float8) AS measured (pages),
         LATERAL (SELECT 2 ^ ceil(log(2, greatest(1, pages / ${SAMPLED_PAGES})::numeric))::float8) AS rounded (step)
    WHERE EXISTS (SELECT FROM counted WHERE records > ${COUNTED})
  ), sampled AS (
    SELECT records.epoch, records.xid, records.n
    FROM horizon, sample, generate_series(0, pages::bigint - 1, step::bigint) AS page, LATERAL (
      SELECT epoch, xid, n FROM sluice.records
      WHERE ctid >= format('(%s,0)', page)::tid AND ctid < format('(%s,0)', page + 1)::tid
      -- A page never has this many records. The LIMIT keeps this a subquery, so that the planner uses a TID range scan.
      LIMIT 400
    ) AS records
    WHERE ${SETTLED}
  ), estimated AS (
    ${unread('sampled')}
  ), ordered AS (
    SELECT name, epoch, xid, n, row_number() OVER up AS rank,
           lead(epoch, 1, ${LAST.epoch}) OVER up AS next_epoch, lead(xid, 1, ${LAST.xid}) OVER up AS next_xid, lead(n, 1, ${LAST.n}) OVER up AS next_n
    FROM chosen WINDOW up AS (ORDER BY epoch, xid, n)
  ), reached AS (
    -- The first record up to the next consumer. If there is none, the first one of the next consumer is also that of this one.
    SELECT name, rank, received_at, min(rank) FILTER (WHERE received_at IS NOT NULL) OVER (ORDER BY rank DESC) AS first
    FROM horizon CROSS JOIN ordered LEFT JOIN LATERAL (
      SELECT received_at FROM sluice.records
      WHERE ${SETTLED} AND (records.epoch, records.xid, records.n) > (ordered.epoch, ordered.xid, ordered.n)
        AND (records.epoch, records.xid, records.n) <= (next_epoch, next_xid, next_n)
      ${inFeedOrder('records', 'asc')} LIMIT 1
    ) AS next ON true
  )
  SELECT chosen.*, counted.records <= ${COUNTED} AS is_exact,
         CASE WHEN counted.records <= ${COUNTED} THEN counted.records
              ELSE greatest(counted.records, estimated.records * (SELECT factor FROM sample)) END::float8 AS records,
         coalesce(greatest(0, extract(epoch FROM now() - first.received_at)), 0)::float8 AS seconds
  FROM chosen
  JOIN counted USING (name)
  LEFT JOIN estimated USING (name)
  JOIN reached USING (name)
  LEFT JOIN reached AS first ON first.rank = reached.first
  ORDER BY chosen.name`
}

type Positions = 'newest' | 'sampled'

/** How many of these positions come after the position of each chosen consumer. */
const UNREAD = {
  one: (positions: Positions) => sql`
    SELECT name, count(unread.epoch) AS records FROM chosen
    LEFT JOIN ${sql.table(positions)} AS unread ON (unread.epoch, unread.xid, unread.n) > (chosen.epoch, chosen.xid, chosen.n)
    GROUP BY name`,
  // Sorting both together takes less than comparing each position with each consumer. A record at a consumer's own position has been
  // read, so the consumer comes first.
  many: (positions: Positions) => sql`
    SELECT name, records FROM (
      SELECT name, count(*) FILTER (WHERE name IS NULL) OVER (ORDER BY epoch DESC, xid DESC, n DESC, name ROWS UNBOUNDED PRECEDING) AS records
      FROM (
        SELECT NULL AS name, epoch, xid, n FROM ${sql.table(positions)} UNION ALL SELECT name, epoch, xid, n FROM chosen
      ) AS positions
    ) AS summed
    WHERE name IS NOT NULL`,
}
