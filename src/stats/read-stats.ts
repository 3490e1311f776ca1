import { selectRollupState, shareOf } from '../data/rollup-state.ts'
import { countSeries, LONGER, type StatsFilter, selectStats } from '../data/select-stats.ts'
import { inTurn, type Reader } from '../read/reader.ts'
import { refuseParameter } from '../read/refuse-parameter.ts'
import { countBuckets } from './query.ts'

/** More take several seconds, during which one key would keep all others from the statistics. */
const MAX_ROWS = 1_000_000

/**
 * Reads buckets from the rollups, and how far they are. The state comes first, so that the buckets contain at least what it says.
 * @returns a StatsDocument in JSON
 * @throws Problem invalid_query, overloaded; the reason of the signal
 */
export const readStats = (reader: Reader, filter: StatsFilter): Promise<Buffer> =>
  inTurn(reader, async () => {
    const { bucket, from, until } = filter
    const { whole, named } = await countSeries(reader.db, filter)
    const rows = whole * countBuckets(filter, bucket) + named * countBuckets(filter, LONGER[bucket])
    if (rows > MAX_ROWS)
      refuseParameter(
        'bucket',
        `must be longer, or the time shorter: up to ${rows} rollups would be added up, and a request may add up ${MAX_ROWS}. Fewer sources have fewer`,
      )
    const { lagSeconds, backfill, isLimited } = await selectRollupState(reader.db)
    const buckets = await selectStats(reader.db, filter, reader.signal)
    const head = JSON.stringify({ bucket, from, until, lagSeconds, backfill: shareOf(backfill), isLimited })
    return Buffer.from(`${head.slice(0, -1)},"buckets":${buckets}}`)
  })
