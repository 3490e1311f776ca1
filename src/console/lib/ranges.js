import { html, nothing } from '../lit-html/lit-html.js'
import { serverTime } from './api.js'
import { duration, percent } from './format.js'
import { linkTo } from './router.js'

/** What a plot may show: how much time, in buckets of which length. The API counts in these buckets. */
const RANGES = {
  hour: { label: 'Hour', seconds: 3_600, bucket: 'minute', bucketSeconds: 60 },
  day: { label: 'Day', seconds: 86_400, bucket: 'minute', bucketSeconds: 60 },
  week: { label: 'Week', seconds: 7 * 86_400, bucket: 'hour', bucketSeconds: 3_600 },
  quarter: { label: '90 days', seconds: 90 * 86_400, bucket: 'day', bucketSeconds: 86_400 },
}

/** @typedef {keyof typeof RANGES} RangeName */

/**
 * @param {string | undefined} text
 * @returns {RangeName}
 */
export const toRange = (text) => (text !== undefined && text in RANGES ? /** @type {RangeName} */ (text) : 'hour')

/**
 * Links to the same page with another range.
 * @param {string} page
 * @param {Record<string, string>} params of the page
 */
export const rangeLinks = (page, params) => html`
  <nav class="choice" aria-label="Time range">
    ${Object.entries(RANGES).map(
      ([name, { label }]) =>
        html`<a href=${linkTo(page, { ...params, range: name })} aria-current=${toRange(params.range) === name ? 'true' : 'false'}>${label}</a>`,
    )}
  </nav>
`

/**
 * The query of a range that ends now.
 * @param {RangeName} range
 */
export function statsQuery(range) {
  const { seconds, bucket, bucketSeconds } = RANGES[range]
  const end = Math.floor(serverTime() / 1000)
  const from = (Math.floor(end / bucketSeconds) + 1) * bucketSeconds - seconds
  return { bucket, from: new Date(from * 1000).toISOString(), until: new Date((end + 1) * 1000).toISOString() }
}

/** A record is counted a second or two after its commit. */
const USUAL_LAG = 2
/** Of a bucket that has just begun, a rate would say nothing. */
const LEAST_SECONDS = 10

/** @typedef {import('./api.js').Documents['stats']} Stats */

/**
 * The buckets of a range, with those that the response leaves out because they are empty.
 * @param {RangeName} range
 * @param {Stats} stats
 */
export function bucketsOf(range, { from, until, lagSeconds }) {
  const { bucketSeconds } = RANGES[range]
  const first = Math.floor(Date.parse(from) / 1000 / bucketSeconds) * bucketSeconds
  const end = Date.parse(until) / 1000
  const starts = Array.from(
    { length: Math.ceil((end - first) / bucketSeconds) },
    (_, index) => first + index * bucketSeconds,
  )
  return {
    starts,
    /** @param {string} start */
    indexOf: (start) => (Date.parse(start) / 1000 - first) / bucketSeconds,
    /** Records per second in a bucket; null where too little is counted yet. @param {number} records @param {number} index */
    rate(records, index) {
      const counted = end - Math.max(lagSeconds, USUAL_LAG) - (starts[index] ?? end)
      return counted < LEAST_SECONDS ? null : records / Math.min(bucketSeconds, counted)
    },
  }
}

/** More is not usual. */
const LATE_SECONDS = 10

/**
 * What the statistics lack.
 * @param {Stats} stats
 * @param {RangeName} range
 */
export function gaps({ lagSeconds, backfill, isLimited }, range) {
  const texts = []
  if (lagSeconds > LATE_SECONDS)
    texts.push(
      `The records of the last ${duration(lagSeconds)} are not counted yet, or the statistics are off (ROLLUP_MAX_SERIES).`,
    )
  if (backfill !== null) {
    const bucket = RANGES[range].bucket
    texts.push(
      bucket === 'minute'
        ? 'Records from before the statistics are never counted by minute. Look at a week or at 90 days.'
        : `Older records are still being counted: ${percent(backfill)} of them are.`,
    )
  }
  if (isLimited)
    texts.push(
      'There are more types and sources than ROLLUP_MAX_SERIES. The later ones are counted only under all others.',
    )
  return texts.length === 0 ? nothing : html`<p class="notice warning">${texts.join(' ')}</p>`
}
