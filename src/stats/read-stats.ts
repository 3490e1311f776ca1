import { selectRollupState } from '../data/rollup-state.ts'
import { type StatsFilter, selectStats } from '../data/select-stats.ts'
import { inTurn, type Reader } from '../read/reader.ts'

/**
 * Reads buckets from the rollups, and how far they are. The state comes first, so that the buckets contain at least what it says.
 * @returns a StatsDocument in JSON
 * @throws Problem overloaded; the reason of the signal
 */
export const readStats = (reader: Reader, filter: StatsFilter): Promise<Buffer> =>
  inTurn(reader, async () => {
    const { bucket, from, until } = filter
    const { lagSeconds, backfill, isLimited } = await selectRollupState(reader.db)
    const buckets = await selectStats(reader.db, filter, reader.signal)
    const { records = 0, estimate = Number.POSITIVE_INFINITY } = backfill ?? {}
    // Until PostgreSQL has analyzed the table, nobody knows how many records there are.
    const share = backfill === undefined ? null : Math.min(1, records / Math.max(1, estimate))
    const head = JSON.stringify({ bucket, from, until, lagSeconds, backfill: share, isLimited })
    return Buffer.from(`${head.slice(0, -1)},"buckets":${buckets}}`)
  })
