import { readJson, urlOf } from '../lib/api.js'
import { copy, curl } from '../lib/copy.js'
import { counted } from '../lib/format.js'
import { Resource } from '../lib/resource.js'
import { linkTo } from '../lib/router.js'
import { fromInput, time, toInput, zoneName } from '../lib/times.js'
import { html, nothing } from '../lit-html/lit-html.js'

const LIMIT = 50

/** The filters of GET /v1/records: name, label, and an example. */
const TEXTS = [
  ['source', 'Source', 'shop'],
  ['id', 'Id', '1001'],
  ['type', 'Type', 'order.placed'],
  ['subject', 'Subject', ''],
  ['data', 'Data contains', '{"total": 12.5}'],
  ['jsonpath', 'JSON path', '$.total > 10'],
]
const TIMES = [
  ['timeFrom', 'Time from'],
  ['timeUntil', 'Time until'],
  ['receivedFrom', 'Received from'],
  ['receivedUntil', 'Received until'],
]

/**
 * Search. The filters are in the URL.
 * @type {(context: import('../app.js').Context) => import('../app.js').Page}
 */
export function open({ params, redraw }) {
  const query = { ...params, limit: LIMIT }
  const list = new Resource((signal) => readJson('records', { query, signal }), redraw)
  // Sources and types to choose from. Without statistics, they have to be typed.
  const names = /** @type {const} */ (['source', 'type']).map(
    (by) => new Resource((signal) => namesBy(by, signal), redraw),
  )
  return {
    close() {
      for (const each of [list, ...names]) each.close()
    },
    view: () => html`
      ${form(params, names)}
      ${list.view((page) => results(page, params))}
    `,
  }
}

/**
 * @param {'source' | 'type'} by
 * @param {AbortSignal} signal
 */
async function namesBy(by, signal) {
  const { buckets } = await readJson('stats', { query: { by, bucket: 'day', limit: 100 }, signal })
  return [...new Set(buckets.flatMap((bucket) => bucket[by] ?? []))]
}

/**
 * @param {Record<string, string>} params
 * @param {Resource<string[]>[]} names
 */
const form = (params, names) => html`
  <form class="filters" @submit=${search}>
    ${TEXTS.map(
      ([name = '', label, example]) => html`
        <label>
          ${label}
          <input name=${name} .value=${params[name] ?? ''} placeholder=${example ?? ''} list=${`${name}s`} autocomplete="off" spellcheck="false" />
        </label>
      `,
    )}
    ${TIMES.map(
      ([name = '', label]) => html`
        <label>
          ${label} (${zoneName()})
          <input type="datetime-local" step="1" name=${name} .value=${toInput(params[name] ?? '')} />
        </label>
      `,
    )}
    ${['sources', 'types'].map(
      (id, index) => html`
        <datalist id=${id}>${(names[index]?.value ?? []).map((name) => html`<option value=${name}></option>`)}</datalist>
      `,
    )}
    <div class="buttons">
      <button type="submit" class="main">Search</button>
      <a class="button" href=${linkTo('records')}>Clear</a>
      <button type="button" @click=${() => copy(curl(urlOf('records', params)))}>Copy as curl</button>
    </div>
    <p class="hint">A source and an id together are found at once. An id alone searches all records.</p>
  </form>
`

/** @param {SubmitEvent} event */
function search(event) {
  event.preventDefault()
  const data = new FormData(/** @type {HTMLFormElement} */ (event.target))
  const filters = /** @type {Record<string, string>} */ (Object.fromEntries(data))
  for (const [name = ''] of TIMES) filters[name] = fromInput(filters[name] ?? '')
  const target = linkTo('records', filters)
  // The same search again must show new records.
  if (target === location.hash) dispatchEvent(new HashChangeEvent('hashchange'))
  else location.hash = target
}

/**
 * @param {import('../lib/api.js').Documents['records']} page
 * @param {Record<string, string>} params
 */
function results({ records, next }, params) {
  if (records.length === 0) {
    const isFiltered = Object.keys(params).length > 0
    return html`<p class="empty" role="status">${isFiltered ? 'No record matches these filters.' : html`There is no record yet that this key may read. <code>npm run demo</code> stores some.`}</p>`
  }
  return html`
    <p class="hint" role="status">${counted(records.length, 'record')}, newest first${next === null ? '' : '; there are older ones'}.</p>
    <div class="scroll" tabindex="0" role="region" aria-label="Records">
      <table>
        <thead>
          <tr><th scope="col">Received</th><th scope="col">Source</th><th scope="col">Id</th><th scope="col">Type</th><th scope="col">Subject</th></tr>
        </thead>
        <tbody>
          ${records.map(
            ({ receivedAt, source, id, type, subject }) => html`
              <tr>
                <td>${time(receivedAt)}</td>
                <td class="text">${source}</td>
                <td class="text"><a href=${linkTo('record', { source, id })}>${id}</a></td>
                <td class="text">${type}</td>
                <td class="text">${subject ?? ''}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
    ${next === null ? nothing : html`<p><a class="button" href=${linkTo('records', { ...params, cursor: next })}>Older records</a></p>`}
  `
}
