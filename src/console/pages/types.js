import { readJson } from '../lib/api.js'
import { bytes, number, percent } from '../lib/format.js'
import { plot } from '../lib/plot.js'
import { bucketsOf, gaps, rangeLinks, statsQuery, toRange } from '../lib/ranges.js'
import { Resource } from '../lib/resource.js'
import { linkTo } from '../lib/router.js'
import { html, nothing } from '../lit-html/lit-html.js'

const EVERY_MS = 30_000
/** colors.css has as many colours. */
const MAX_LINES = 7

/**
 * Types and sources over time. Those with the most records have a line; all others are one line.
 * @type {(context: import('../app.js').Context) => import('../app.js').Page}
 */
export function open({ params, redraw }) {
  const range = toRange(params.range)
  const parts = /** @type {('type' | 'source')[]} */ (['type', 'source']).map((by) => ({
    by,
    stats: new Resource(
      (signal) => readJson('stats', { query: { ...statsQuery(range), by, limit: MAX_LINES }, signal }),
      redraw,
      EVERY_MS,
    ),
  }))
  return {
    close() {
      for (const { stats } of parts) stats.close()
    },
    view: () => html`
      ${rangeLinks('types', params)}
      ${parts.map(({ by, stats }) => html`<h2>${by === 'type' ? 'Types' : 'Sources'}</h2>${stats.view((value) => show(value, by, range))}`)}
    `,
  }
}

/**
 * @param {import('../lib/api.js').Documents['stats']} stats
 * @param {'type' | 'source'} by
 * @param {import('../lib/ranges.js').RangeName} range
 */
function show(stats, by, range) {
  const { starts, indexOf, rate } = bucketsOf(range, stats)
  /** @type {Map<string | null, { values: (number | null)[], records: number, bytes: number, duplicates: number, rejected: number }>} */
  const lines = new Map()
  for (const bucket of stats.buckets) {
    const name = bucket[by] ?? null
    const line = lines.get(name) ?? {
      values: starts.map((_, index) => rate(0, index)),
      records: 0,
      bytes: 0,
      duplicates: 0,
      rejected: 0,
    }
    lines.set(name, line)
    const at = indexOf(bucket.start)
    line.values[at] = rate(bucket.records, at)
    for (const count of /** @type {const} */ (['records', 'bytes', 'duplicates', 'rejected']))
      line[count] += bucket[count]
  }
  const missing = gaps(stats, range)
  if (lines.size === 0)
    return missing === nothing ? html`<p class="empty">Nothing came in during this time.</p>` : missing
  const sorted = [...lines].sort(
    ([name, one], [other, two]) => Number(name === null) - Number(other === null) || two.records - one.records,
  )
  const series = sorted.map(([name, { values }]) => ({ label: name ?? 'all others', values }))
  return html`
    ${missing}
    ${plot({ starts, series, unit: 'records/s', title: `Records per second by ${by}` })}
    <div class="scroll" tabindex="0" role="region" aria-label=${by === 'type' ? 'Types' : 'Sources'}>
      <table>
        <thead>
          <tr>
            <th scope="col">${by === 'type' ? 'Type' : 'Source'}</th>
            <th scope="col" class="number">Records</th><th scope="col" class="number">Payload</th>
            <th scope="col" class="number">Duplicates</th><th scope="col" class="number">Rejected</th><th scope="col" class="number">Share rejected</th>
          </tr>
        </thead>
        <tbody>
          ${sorted.map(
            ([name, line]) => html`
              <tr>
                <th scope="row">${name === null ? 'All others' : html`<a href=${linkTo('records', { [by]: name })}>${name}</a>`}</th>
                <td class="number">${number(line.records)}</td>
                <td class="number">${bytes(line.bytes)}</td>
                <td class="number">${number(line.duplicates)}</td>
                <td class="number">${number(line.rejected)}</td>
                <td class="number">${shareOf(line)}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `
}

/** Of all records that were sent. @param {{ records: number, duplicates: number, rejected: number }} line */
function shareOf({ records, duplicates, rejected }) {
  const sent = records + duplicates + rejected
  return sent === 0 ? '–' : percent(rejected / sent)
}
