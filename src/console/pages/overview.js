import { readJson } from '../lib/api.js'
import { bytes, counted, duration, number, percent } from '../lib/format.js'
import { level } from '../lib/level.js'
import { plot } from '../lib/plot.js'
import { bucketsOf, gaps, rangeLinks, statsQuery, toRange } from '../lib/ranges.js'
import { Resource } from '../lib/resource.js'
import { linkTo } from '../lib/router.js'
import { formatTime, time } from '../lib/times.js'
import { html, nothing } from '../lit-html/lit-html.js'

const STATUS_MS = 5_000
const STATS_MS = 15_000

const OUTCOMES = /** @type {const} */ ([
  ['records', 'stored'],
  ['duplicates', 'duplicate'],
  ['rejected', 'rejected'],
])

/** @typedef {import('../lib/level.js').Level} Level */
/** @typedef {import('../lib/api.js').Documents['status']} Status */

/**
 * Whether everything is well, and what comes in.
 * @type {(context: import('../app.js').Context) => import('../app.js').Page}
 */
export function open({ params, redraw }) {
  const range = toRange(params.range)
  const status = new Resource((signal) => readJson('status', { signal }), redraw, STATUS_MS)
  const stats = new Resource((signal) => readJson('stats', { query: statsQuery(range), signal }), redraw, STATS_MS)
  return {
    close() {
      status.close()
      stats.close()
    },
    view: () => html`
      ${status.view(health)}
      <h2>Records per second</h2>
      ${rangeLinks('overview', params)}
      ${stats.view((value) => rates(value, range))}
    `,
  }
}

const HEALTH = { ok: 'Everything is well', warning: 'Warning', critical: 'Critical' }

/**
 * @param {Status} status
 * @param {boolean} isOld nothing newer could be read, so nobody knows
 */
const health = (status, isOld) => html`
  <p class="health" role="status">${isOld ? level('unknown') : level(status.health, HEALTH[status.health])}</p>
  ${isOld ? html`<p>What follows is from ${time(status.at)}.</p>` : nothing}
  ${
    status.findings.length === 0
      ? nothing
      : html`<ul class="findings">${status.findings.map(({ level: value, detail }) => html`<li>${level(value)} ${detail}</li>`)}</ul>`
  }
  <dl class="cards">${cards(status, isOld).map(({ name, codes, text, isUnknown }) => card(name, isOld || isUnknown ? 'unknown' : worst(status.findings, codes), text))}</dl>
`

/**
 * @param {string} name
 * @param {Level} value
 * @param {unknown} text
 */
const card = (name, value, text) => html`<div><dt>${name}</dt><dd>${level(value)}</dd><dd>${text}</dd></div>`

/**
 * @param {{ code: string, level: Level }[]} findings the worst first
 * @param {string[]} codes
 */
const worst = (findings, codes) => findings.find(({ code }) => codes.includes(code))?.level ?? 'ok'

/**
 * What each card says, and which findings are about it.
 * @param {Status} status
 * @param {boolean} isOld
 * @returns {{ name: string, codes: string[], text: unknown, isUnknown?: boolean }[]}
 */
const cards = (
  { at, instance, instances, database, feed, storage, statistics, consumers, consumerCount, jobs },
  isOld,
) => [
  {
    name: 'Database',
    codes: ['database_unavailable', 'keys_old', 'unsafe_setting'],
    text: database.available
      ? 'available'
      : `unavailable for ${duration(Math.max(database.outageSeconds, database.keysAgeSeconds))}`,
  },
  {
    name: 'Waiting requests',
    codes: ['records_wait', 'queue_nearly_full', 'overloaded'],
    // Of the instance that responded, and each request may reach another one.
    text:
      instance.waitingRequests === 0
        ? `none on ${instance.name}`
        : `${number(instance.waitingRequests)} on ${instance.name}, the oldest for ${duration(instance.oldestWaitingSeconds)}`,
  },
  {
    name: 'Storage',
    codes: ['storage_full', 'storage_nearly_full', 'storage_full_soon'],
    isUnknown: storage?.usedBytes == null,
    text: describeStorage(storage, isOld),
  },
  { name: 'Instances', codes: ['not_ready'], isUnknown: instances === null, text: describeInstances(instances) },
  {
    name: 'Statistics',
    codes: ['statistics_behind'],
    isUnknown: statistics?.lagSeconds == null,
    text: statistics === null ? 'off' : describeStatistics(statistics),
  },
  {
    name: 'Feed',
    codes: ['feed_held'],
    isUnknown: feed.heldSeconds === null,
    text:
      feed.heldSeconds === null
        ? nothing
        : feed.heldSeconds < 1
          ? 'up to date'
          : `held back for ${duration(feed.heldSeconds)}`,
  },
  {
    name: 'Consumers',
    codes: ['consumer_overtaken', 'consumer_behind'],
    isUnknown: consumers === null,
    text: html`<a href=${linkTo('consumers')}>${describeConsumers(consumers, consumerCount)}</a>`,
  },
  ...Object.entries(JOBS).map(([job, name]) => {
    const found = jobs?.find((one) => one.job === job)
    const codes = [`${job}_failed`, `${job}_too_old`]
    const text = jobs === null ? nothing : describeJob(found, Date.parse(at))
    return { name, codes, isUnknown: found === undefined, text }
  }),
]

const JOBS = {
  backup: 'Backup',
  backup_upload: 'Upload of backups',
  restore_drill: 'Restore drill',
  retention: 'Retention',
}

/**
 * @param {Status['storage']} storage
 * @param {boolean} isOld
 */
function describeStorage(storage, isOld) {
  if (storage === null) return 'no budget (STORAGE_BUDGET)'
  const { usedBytes, budgetBytes, full, fullAt, growth } = storage
  if (usedBytes === null) return nothing
  // Browsers draw a meter green below `high`, and nothing may be green if nobody knows.
  const meter = isOld
    ? nothing
    : html`<meter min="0" max=${budgetBytes} high=${budgetBytes * 0.8} .value=${usedBytes} aria-label="Share of the storage budget"></meter>`
  return html`
    ${bytes(usedBytes)} of ${bytes(budgetBytes)} (${percent(usedBytes / budgetBytes)})
    ${meter}
    ${full ? 'full: records are refused' : fullAt === null ? nothing : html`full on ${formatTime(Date.parse(fullAt), 'day')} if it grows as it did in the last ${growth}`}
  `
}

/** @param {Status['instances']} instances */
function describeInstances(instances) {
  if (instances === null) return nothing
  const versions = [...new Set(instances.map(({ version }) => version))]
  return html`<details>
    <summary>${instances.length}, version ${versions.join(' and ')}</summary>
    <ul>${instances.map(({ name, version }) => html`<li>${name}: ${version}</li>`)}</ul>
  </details>`
}

/** @param {Status['statistics'] & object} statistics */
function describeStatistics({ lagSeconds, backfill }) {
  if (lagSeconds === null) return nothing
  const lag = lagSeconds < 5 ? 'up to date' : `${duration(lagSeconds)} behind`
  return backfill === null ? lag : `${lag}; ${percent(backfill)} of the older records are counted`
}

/**
 * @param {Status['consumers']} consumers the furthest behind first
 * @param {number | null} count
 */
function describeConsumers(consumers, count) {
  const [last] = consumers ?? []
  if (last === undefined) return consumers === null ? 'look' : 'none'
  if (last.records === 0) return `${count}, all up to date`
  return `${count}; ${last.name} is ${counted(last.records, 'record')} behind (${duration(last.seconds)})`
}

/**
 * @param {(Status['jobs'] & object)[0] | undefined} job
 * @param {number} now
 */
function describeJob(job, now) {
  if (job === undefined) return 'has not run'
  const { succeeded, finishedAt, succeededAt } = job
  if (succeeded) return html`succeeded ${duration((now - Date.parse(finishedAt)) / 1000)} ago`
  return html`failed ${duration((now - Date.parse(finishedAt)) / 1000)} ago, last success: ${time(succeededAt)}`
}

/**
 * @param {import('../lib/api.js').Documents['stats']} stats
 * @param {import('../lib/ranges.js').RangeName} range
 */
function rates(stats, range) {
  const { starts, indexOf, rate } = bucketsOf(range, stats)
  const series = OUTCOMES.map(([count, label]) => ({ count, label, values: starts.map((_, index) => rate(0, index)) }))
  const totals = { records: 0, duplicates: 0, rejected: 0 }
  for (const bucket of stats.buckets) {
    const at = indexOf(bucket.start)
    for (const { count, values } of series) {
      values[at] = rate(bucket[count], at)
      totals[count] += bucket[count]
    }
  }
  const total = totals.records + totals.duplicates + totals.rejected
  const missing = gaps(stats, range)
  return html`
    ${missing}
    ${plot({ starts, series, unit: 'records/s', title: 'Records per second by outcome' })}
    <p>${total === 0 && missing === nothing ? html`Nothing came in during this time. <code>npm run demo</code> stores some records. ` : nothing}${OUTCOMES.map(([count, label]) => `${number(totals[count])} ${label}`).join(', ')}. Drag in the plot to zoom, double-click to see everything again.</p>
  `
}
