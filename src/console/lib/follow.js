import { SILENT, send, toApiError } from './api.js'
import { elements } from './json-text.js'

/** Between two attempts, in milliseconds. */
const RETRY_MS = 2_000
/**
 * How many records a request gets, and the time from the beginning of one to that of the next. Nobody reads so many, and ten open consoles
 * must not slow those who store records.
 */
const PAGE_RECORDS = 100
const PACE_MS = 1_000
/** If there are more records than that. */
const BEHIND_MS = 3_000
/** How long the server may wait for a record, in seconds. */
const WAIT_SECONDS = 10
/** After this time without a response, the connection counts as broken. In an outage, the server may hold a request for a while. */
const SILENT_MS = 60_000

/**
 * @typedef {object} FeedPage
 * @property {string[]} records as JSON
 * @property {string} next the offset after them
 * @property {boolean} isUpToDate whether the feed has no more
 */

/**
 * @typedef {object} Events
 * @property {(page: FeedPage) => void} onPage it may have no records, only the offset
 * @property {(error: Error) => void} onError gets what interrupts it, until the next page
 */

/**
 * Follows the feed from an offset, across interruptions, so that no record is missed. Ends when the request itself is refused, since
 * it would be refused again.
 * @param {Record<string, string>} filter of GET /v1/feed
 * @param {string} offset `now` or an offset of the feed
 * @param {Events} events
 * @param {AbortSignal} signal
 */
export async function follow(filter, offset, { onPage, onError }, signal) {
  let at = offset
  // Whether it follows is known after a request for which the server does not wait.
  let isFollowing = false
  while (!signal.aborted) {
    const begin = performance.now()
    try {
      const page = await readPage(filter, at, isFollowing ? WAIT_SECONDS : 0, signal)
      if (signal.aborted) return
      at = page.next
      isFollowing = true
      onPage(page)
      await sleep(begin + (page.isUpToDate ? PACE_MS : BEHIND_MS) - performance.now())
    } catch (error) {
      if (signal.aborted) return
      isFollowing = false
      const found = toApiError(/** @type {Error} */ (error))
      onError(found)
      if (isRefusal(found)) return
      await sleep(RETRY_MS)
    }
  }
}

/**
 * @param {Record<string, string>} filter
 * @param {string} offset
 * @param {number} timeout how long the server may wait for a record, in seconds
 * @param {AbortSignal} signal
 * @returns {Promise<FeedPage>}
 */
async function readPage(filter, offset, timeout, signal) {
  const attempt = new AbortController()
  const abort = () => attempt.abort()
  signal.addEventListener('abort', abort)
  const timer = setTimeout(() => attempt.abort(SILENT), SILENT_MS)
  try {
    const wait = timeout === 0 ? {} : { live: 'long-poll', timeout }
    const query = { ...filter, offset, limit: PAGE_RECORDS, ...wait }
    const response = await send('feed', { query, signal: attempt.signal })
    const records = elements(await response.text())
    const { headers } = response
    return {
      records,
      next: headers.get('stream-next-offset') ?? offset,
      isUpToDate: headers.get('stream-up-to-date') === 'true',
    }
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', abort)
  }
}

/** @param {number} milliseconds */
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

/** Not 429: too many requests, for the moment. @param {import('./api.js').ApiError} error */
const isRefusal = ({ status }) => status >= 400 && status < 500 && status !== 429
