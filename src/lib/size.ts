const MULTIPLES = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 }
type Unit = keyof typeof MULTIPLES

/** A number and a unit: `500MB`, `1.5GiB`. */
export const SIZE = /^([1-9][0-9]{0,8}(?:[.][0-9]{1,3})?)(B|[kMGT]B|[KMGT]iB)$/

/** The size in bytes, rounded down; undefined if the text is not a SIZE. */
export function parseSize(text: string): number | undefined {
  const [, number, unit] = SIZE.exec(text) ?? []
  return unit === undefined ? undefined : Math.floor(Number(number) * MULTIPLES[unit as Unit])
}

/** What people write for sizes: `1mb`, `10Gi`, `1,5 GB`, `64M`. */
const NEAR_SIZE = /^\s*(\d+(?:[.,]\d+)?)\s*([kmgt])(i?)(b?)(?:ytes?)?\s*$/i

/** The sizes that were probably meant by a text that is none: two if it is not clear whether it counts in thousands or in 1024. */
export function nearSizes(text: string): string[] {
  const [, digits = '', letter = '', i, b] = NEAR_SIZE.exec(text) ?? []
  const number = digits.replace(',', '.')
  const prefix = letter.toUpperCase()
  const decimal = `${number}${prefix === 'K' ? 'k' : prefix}B`
  const binary = `${number}${prefix}iB`
  const meant = i ? [binary] : b ? [decimal] : [decimal, binary]
  return meant.filter((size) => size !== text && parseSize(size) !== undefined)
}

/** Bytes with the largest unit that divides them: 67108864 → `64MiB`. */
export function formatSize(bytes: number): string {
  const unit = (['TiB', 'GiB', 'MiB', 'KiB'] as const).find((name) => bytes % MULTIPLES[name] === 0) ?? 'B'
  return `${bytes / MULTIPLES[unit]}${unit}`
}
