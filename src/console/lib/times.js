import { html } from '../lit-html/lit-html.js'

/** All times are in UTC or in the zone of the browser, by one switch, which is kept for all tabs. */
const NAME = 'sluice-times'

export const isUtc = () => localStorage.getItem(NAME) !== 'local'

/** @param {boolean} utc */
export const useUtc = (utc) => localStorage.setItem(NAME, utc ? 'utc' : 'local')

/** The name of the zone in use. */
export const zoneName = () => (isUtc() ? 'UTC' : Intl.DateTimeFormat().resolvedOptions().timeZone)

/**
 * @param {number} ms since 1970
 * @param {'day' | 'minute' | 'second'} [unit] the smallest that is shown
 */
export function formatTime(ms, unit = 'second') {
  const date = new Date(isUtc() ? ms : ms - new Date(ms).getTimezoneOffset() * 60_000)
  return date.toISOString().slice(0, { day: 10, minute: 16, second: 19 }[unit]).replace('T', ' ')
}

/**
 * For an input of the type datetime-local.
 * @param {string} text RFC 3339
 * @returns '' if it is not a time
 */
export function toInput(text) {
  const ms = Date.parse(text)
  return Number.isNaN(ms) ? '' : formatTime(ms).replace(' ', 'T')
}

/**
 * The time that was entered, in the zone that is in use.
 * @param {string} text of an input of the type datetime-local
 * @returns RFC 3339; '' if nothing was entered
 */
export const fromInput = (text) => (text === '' ? '' : new Date(isUtc() ? `${text}Z` : text).toISOString())

/**
 * A time of the API. Its digits after the seconds are kept.
 * @param {string | null} text RFC 3339
 */
export function time(text) {
  if (text === null) return html`<span class="none">never</span>`
  const [fraction = ''] = /\.\d+/.exec(text) ?? []
  return html`<time datetime=${text}>${formatTime(Date.parse(text))}${fraction}</time>`
}
