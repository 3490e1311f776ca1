import { ApiError, serverTime } from '../lib/api.js'
import { follow } from '../lib/follow.js'
import { counted } from '../lib/format.js'
import { members } from '../lib/json-text.js'
import { failure } from '../lib/resource.js'
import { linkTo } from '../lib/router.js'
import { time } from '../lib/times.js'
import { html, nothing } from '../lit-html/lit-html.js'

/** More rows than anybody reads. */
const MAX_ROWS = 200
/** Characters of the data in a row. */
const MAX_DATA = 200
/** If more records follow, and those that arrive are older than this, the page is behind. */
const LATE_MS = 10_000
/** An offset that is ahead of the feed: the database was set back to an earlier state. */
const SET_BACK = 409

/**
 * What is shown of a record. A record may have megabytes, so the rest of it is not kept.
 * @typedef {{ receivedAt: string, source: string, id: string, type: string, data: string }} Row
 */

const FIELDS = [
  ['source', 'Source'],
  ['sourcePrefix', 'Source begins with'],
  ['type', 'Type'],
  ['subject', 'Subject'],
]

/**
 * The feed as it comes. After a pause, what was committed meanwhile follows. A tab in the background pauses.
 * @type {(context: import('../app.js').Context) => import('../app.js').Page}
 */
export function open({ params, redraw }) {
  /** @type {Row[]} newest first */
  let rows = []
  let count = 0
  let offset = 'now'
  /** @type {Error | undefined} */
  let error
  let isConnected = false
  let isPaused = false
  let isLate = false
  /** @type {AbortController | undefined} */
  let following
  const stop = new AbortController()

  function start() {
    following?.abort()
    const own = new AbortController()
    following = own
    isPaused = false
    const events = {
      /** @type {(page: import('../lib/follow.js').FeedPage) => void} */
      onPage({ records, next, isUpToDate }) {
        error = undefined
        isConnected = true
        count += records.length
        offset = next
        rows = [...records.map(toRow).reverse(), ...rows].slice(0, MAX_ROWS)
        const last = records.at(-1)
        isLate = !isUpToDate && (last === undefined || serverTime() - Date.parse(JSON.parse(last).receivedAt) > LATE_MS)
        redraw()
      },
      /** @type {(found: Error) => void} */
      onError(found) {
        error = found
        isConnected = false
        redraw()
      },
    }
    void follow(params, offset, events, own.signal).then(() => {
      if (own.signal.aborted) return
      // It was refused.
      following = undefined
      redraw()
    })
    redraw()
  }

  function halt() {
    following?.abort()
    following = undefined
    isConnected = false
    isLate = false
    error = undefined
    redraw()
  }

  function pauseOrContinue() {
    if (following === undefined) {
      if (error instanceof ApiError && error.status === SET_BACK) offset = 'now'
      start()
      return
    }
    isPaused = true
    halt()
  }

  function skip() {
    offset = 'now'
    start()
  }

  const onVisibility = () => {
    if (document.hidden) halt()
    else if (!isPaused && following === undefined) start()
  }
  document.addEventListener('visibilitychange', onVisibility, { signal: stop.signal })

  start()
  return {
    close() {
      stop.abort()
      following?.abort()
    },
    view: () => html`
      <form class="filters" @submit=${filter}>
        ${FIELDS.map(
          ([name = '', label]) =>
            html`<label>${label}<input name=${name} .value=${params[name] ?? ''} autocomplete="off" spellcheck="false" /></label>`,
        )}
        <div class="buttons">
          <button type="submit" class="main">Filter</button>
          <button type="button" @click=${pauseOrContinue}>${following === undefined ? 'Continue' : 'Pause'}</button>
          ${isLate ? html`<button type="button" @click=${skip}>Skip to the newest</button>` : nothing}
        </div>
      </form>
      ${error === undefined ? nothing : failure(error)}
      <p><span role="status">${state()}</span> ${count === 0 ? nothing : `${counted(count, 'record')} since this page was opened.`}</p>
      ${rows.length === 0 ? nothing : table(rows)}
    `,
  }

  /** Without numbers, because a screen reader reads each change of it. */
  function state() {
    if (following === undefined) {
      if (error === undefined && offset === 'now')
        return 'Paused. Press Continue to begin with what is stored from then on.'
      if (error === undefined) return 'Paused. What is stored meanwhile will follow.'
      return error instanceof ApiError && error.status === SET_BACK
        ? 'Stopped. To continue with what is stored from now on, press Continue.'
        : 'Stopped.'
    }
    if (!isConnected) return error === undefined ? 'Connecting …' : 'Trying again …'
    return isLate
      ? 'Behind the feed: older records come first.'
      : 'Following the feed: the next record will appear here.'
  }
}

/**
 * @param {string} text a record as JSON
 * @returns {Row}
 */
function toRow(text) {
  const { receivedAt, source, id, type } = JSON.parse(text)
  const found = members(text)
  const data = found.get('data') ?? found.get('data_base64') ?? ''
  // A slice would keep the whole text in memory.
  const shown = data.length > MAX_DATA ? `${[...data.slice(0, MAX_DATA)].join('')} …` : data
  return { receivedAt, source, id, type, data: shown }
}

/** @param {SubmitEvent} event */
function filter(event) {
  event.preventDefault()
  const data = new FormData(/** @type {HTMLFormElement} */ (event.target))
  location.hash = linkTo('live', /** @type {Record<string, string>} */ (Object.fromEntries(data)))
}

/** @param {Row[]} rows */
const table = (rows) => html`
  <div class="scroll" tabindex="0" role="region" aria-label="Newest records">
    <table>
      <thead>
        <tr><th scope="col">Received</th><th scope="col">Source</th><th scope="col">Id</th><th scope="col">Type</th><th scope="col">Data</th></tr>
      </thead>
      <tbody>${rows.map(row)}</tbody>
    </table>
  </div>
`

/** @param {Row} row */
const row = ({ receivedAt, source, id, type, data }) => html`
  <tr>
    <td>${time(receivedAt)}</td>
    <td class="text">${source}</td>
    <td class="text"><a href=${linkTo('record', { source, id })}>${id}</a></td>
    <td class="text">${type}</td>
    <td class="data">${data}</td>
  </tr>
`
