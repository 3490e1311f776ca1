const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']

/** @param {number} value */
export const number = (value) =>
  value < 1
    ? value.toLocaleString('en', { maximumSignificantDigits: 2 })
    : value.toLocaleString('en', { maximumFractionDigits: value < 10 ? 2 : value < 100 ? 1 : 0 })

/**
 * @param {number} value
 * @param {string} noun of one
 */
export const counted = (value, noun) => `${number(value)} ${value === 1 ? noun : `${noun}s`}`

/** @param {number} value */
export function bytes(value) {
  const power = value < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(value) / 3))
  return `${number(value / 1000 ** power)} ${UNITS[power]}`
}

/** @param {number} share from 0 to 1 */
export const percent = (share) =>
  `${(share * 100).toLocaleString('en', { maximumFractionDigits: share < 0.1 ? 1 : 0 })} %`

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  if (seconds < 120) return `${Math.floor(seconds)} s`
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h`
  return `${Math.floor(seconds / 86_400)} days`
}
