import { ApiError, send, urlOf } from '../lib/api.js'
import { copy, curl } from '../lib/copy.js'
import { members, pretty } from '../lib/json-text.js'
import { Resource } from '../lib/resource.js'
import { linkTo } from '../lib/router.js'
import { formatTime, isUtc, zoneName } from '../lib/times.js'
import { html, nothing } from '../lit-html/lit-html.js'

/**
 * One record as it was received.
 * @type {(context: import('../app.js').Context) => import('../app.js').Page}
 */
export function open({ params, redraw }) {
  const { source = '', id = '' } = params
  // As a list with one record: a path cannot contain the ids "." and "..".
  const query = { source, id, limit: 1 }
  const record = new Resource(async (signal) => {
    const response = await send('records', { query, accept: 'application/x-ndjson', signal })
    const text = (await response.text()).trim()
    if (text === '') throw new ApiError(404, `There is no record ${id} of the source ${source} that this key may read.`)
    return text
  }, redraw)
  return {
    close: () => record.close(),
    view: () => record.view((text) => show(text, source, urlOf('records', query))),
  }
}

/**
 * @param {string} text the record as JSON
 * @param {string} source
 * @param {string} url
 */
function show(text, source, url) {
  const { data, data_base64: binary, ...attributes } = Object.fromEntries(members(text))
  return html`
    <p class="buttons">
      <button type="button" @click=${() => copy(text)}>Copy as JSON</button>
      <button type="button" @click=${() => copy(curl(url))}>Copy as curl</button>
      <a class="button" href=${linkTo('records', { source })}>Other records of this source</a>
    </p>
    <dl class="attributes">
      ${Object.entries(attributes).map(([name, value]) => html`<dt>${name}</dt><dd>${plain(value)}${local(name, value)}</dd>`)}
    </dl>
    <h2>Data</h2>
    ${binary === undefined ? nothing : html`<p>Bytes, as base64:</p>`}
    ${showData(binary ?? data)}
  `
}

/** @param {string | undefined} data JSON */
function showData(data) {
  if (data === undefined) return html`<p class="empty">The record has no data.</p>`
  const { shown, isCut } = pretty(data)
  return html`
    <pre tabindex="0" role="region" aria-label="Data">${shown}</pre>
    ${isCut ? html`<p class="hint">This is the beginning. “Copy as JSON” copies all of it.</p>` : nothing}
  `
}

const TIMES = ['time', 'receivedAt']

/** The time in the zone of the browser, beside the one that was received. @param {string} name @param {string} value JSON */
const local = (name, value) =>
  TIMES.includes(name) && !isUtc()
    ? html` <span class="none">(${formatTime(Date.parse(JSON.parse(value)))} ${zoneName()})</span>`
    : nothing

/** A string without its quotes, and anything else as it is. @param {string} text JSON */
const plain = (text) => (text.startsWith('"') ? JSON.parse(text) : text)
