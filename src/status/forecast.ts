import type { StorageSample } from '../data/storage-history.ts'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS

/** A typical day of fewer days says nothing. */
const WEEK_MS = 6 * DAY_MS
/** Nobody plans for a time after this. */
const MAX_AHEAD_MS = 365 * DAY_MS

interface Forecast {
  /** In milliseconds since 1970. */
  fullAt: number
  /** If the database grows as it did in the last day, or on a typical day of the last week. */
  as: 'day' | 'week'
}

/**
 * When the database will have used `limitBytes`. Growth is measured from one time to the same time on the next day, because retention deletes
 * once a night. It is that of the last day, so that sudden growth is noticed at once, or the median of the last week, if that is
 * more: a single large load does not change the median.
 * @param samples oldest first, one per hour
 * @returns undefined: not within a year, or nobody can say yet
 */
export function forecast(samples: readonly StorageSample[], limitBytes: number): Forecast | undefined {
  const [first, last] = [samples[0], samples.at(-1)]
  if (first === undefined || last === undefined) return undefined
  const growth = samples.flatMap((sample) => dailyGrowth(samples, sample) ?? [])
  const lastDay = dailyGrowth(samples, last) ?? 0
  const typical = last.at - first.at < WEEK_MS ? 0 : medianOf(growth)
  const perDay = Math.max(lastDay, typical)
  const as = lastDay >= typical ? 'day' : 'week'
  if (last.usedBytes >= limitBytes) return { fullAt: last.at, as }
  if (perDay <= 0) return undefined
  const ahead = ((limitBytes - last.usedBytes) / perDay) * DAY_MS
  return ahead > MAX_AHEAD_MS ? undefined : { fullAt: last.at + ahead, as }
}

/** In bytes, since the sample of a day before; undefined: there is none. */
function dailyGrowth(samples: readonly StorageSample[], { at, usedBytes }: StorageSample): number | undefined {
  const before = samples.find((sample) => Math.abs(at - DAY_MS - sample.at) <= HOUR_MS / 2)
  return before === undefined ? undefined : ((usedBytes - before.usedBytes) / (at - before.at)) * DAY_MS
}

const medianOf = (values: readonly number[]) => values.toSorted((one, other) => one - other)[values.length >> 1] ?? 0
