import { html, nothing } from '../lit-html/lit-html.js'
import { SILENT, toApiError } from './api.js'

/** Longer than the server takes, unless the connection is broken. */
const MAX_MS = 60_000

/**
 * What a page reads from the API: while it loads, when it is there, and when that fails. It can be read again and again.
 * @template T
 */
export class Resource {
  /**
   * @param {(signal: AbortSignal) => Promise<T>} load
   * @param {() => void} redraw called when the view has changed
   * @param {number} [everyMs] default: it is read once
   */
  constructor(load, redraw, everyMs) {
    this.load = load
    this.redraw = redraw
    this.everyMs = everyMs
    /** @type {T | undefined} */
    this.value = undefined
    /** @type {import('./api.js').ApiError | undefined} */
    this.error = undefined
    this.isTrying = false
    this.stop = new AbortController()
    // A tab in the background asks for nothing. It reads again as soon as it is visible.
    const { signal } = this.stop
    if (everyMs !== undefined) document.addEventListener('visibilitychange', () => void this.refresh(), { signal })
    void this.refresh()
  }

  /** Reads it now, and forgets an earlier read that has not ended. */
  async refresh() {
    clearTimeout(this.timer)
    this.reading?.abort()
    const isRepeated = this.everyMs !== undefined
    if ((isRepeated && document.hidden) || this.stop.signal.aborted) return
    const reading = new AbortController()
    this.reading = reading
    // What is read again and again must not be old, so each read has the time of two.
    const timer = setTimeout(() => reading.abort(SILENT), isRepeated ? 2 * Number(this.everyMs) : MAX_MS)
    const outcome = await this.load(reading.signal).then(
      (value) => ({ value, error: undefined }),
      (error) => ({ value: this.value, error: toApiError(error) }),
    )
    clearTimeout(timer)
    // Another read has begun, or the page is not visible any more.
    if (reading.signal.aborted && reading.signal.reason !== SILENT) return
    Object.assign(this, outcome, { isTrying: false })
    if (isRepeated) this.timer = setTimeout(() => this.refresh(), this.everyMs)
    this.redraw()
  }

  /** For the button: the page must react at once. */
  again() {
    this.isTrying = true
    void this.refresh()
    this.redraw()
  }

  close() {
    clearTimeout(this.timer)
    this.reading?.abort()
    this.stop.abort()
  }

  /**
   * @param {(value: T, isOld: boolean) => unknown} show gets the last value, and whether the last read has failed
   * @returns what to render: an error above the last value, if there is one
   */
  view(show) {
    const { value, error } = this
    if (error === undefined && value === undefined) return html`<p class="loading" role="status">Loading …</p>`
    return html`${error === undefined ? nothing : failure(error, () => this.again(), this.isTrying)}${
      value === undefined ? nothing : show(value, error !== undefined)
    }`
  }
}

/**
 * @param {Error} error
 * @param {() => void} [again]
 * @param {boolean} [isTrying]
 */
export const failure = (error, again, isTrying) => html`
  <div class="notice critical" role="alert">
    <p>${error.message}</p>
    ${again === undefined ? nothing : html`<button type="button" @click=${again}>${isTrying ? 'Trying again …' : 'Try again'}</button>`}
  </div>
`
