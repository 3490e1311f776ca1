import { readJson, serverTime } from '../lib/api.js'
import { duration, number } from '../lib/format.js'
import { level } from '../lib/level.js'
import { Resource } from '../lib/resource.js'
import { time } from '../lib/times.js'
import { html } from '../lit-html/lit-html.js'

const EVERY_MS = 5_000
/** As in the alert SluiceConsumerBehind. */
const BEHIND_SECONDS = 3_600
/** As long as the alert SluiceConsumerOvertaken. */
const OVERTAKEN_MS = 86_400_000

/** @type {(context: import('../app.js').Context) => import('../app.js').Page} */
export function open({ redraw }) {
  const list = new Resource((signal) => readJson('consumers', { signal }), redraw, EVERY_MS)
  return { close: () => list.close(), view: () => list.view(({ consumers }, isOld) => table(consumers, isOld)) }
}

/**
 * @param {import('../lib/api.js').Documents['consumers']['consumers']} consumers
 * @param {boolean} isOld whether the last read has failed
 */
function table(consumers, isOld) {
  if (consumers.length === 0)
    return html`<p class="empty">
      No consumer has stored an offset. A program that follows the feed does so with <code>PUT /v1/consumers/NAME</code>, or try
      <code>sluice tail --consumer NAME</code>.
    </p>`
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label="Consumers">
      <table>
        <thead>
          <tr>
            <th scope="col">Name</th><th scope="col">State</th><th scope="col" class="number">Records behind</th><th scope="col" class="number">Oldest unread</th>
            <th scope="col">Offset stored</th><th scope="col">Overtaken by retention</th>
          </tr>
        </thead>
        <tbody>
          ${consumers.map(
            ({ name, lag, updatedAt, overtakenAt }) => html`
              <tr>
                <th scope="row">${name}</th>
                <td>${isOld ? level('unknown') : state(lag, overtakenAt)}</td>
                <td class="number">${lag.isExact ? '' : 'about '}${number(lag.records)}</td>
                <td class="number">${lag.records === 0 ? '–' : duration(lag.seconds)}</td>
                <td>${time(updatedAt)}</td>
                <td>${time(overtakenAt)}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `
}

/**
 * @param {{ records: number, seconds: number }} lag
 * @param {string | null} overtakenAt
 */
function state({ records, seconds }, overtakenAt) {
  if (overtakenAt !== null && serverTime() - Date.parse(overtakenAt) < OVERTAKEN_MS)
    return level('critical', 'Missed records')
  if (seconds > BEHIND_SECONDS) return level('warning', 'Behind')
  return level('ok', records === 0 ? 'Up to date' : 'Less than an hour behind')
}
