const MULTIPLES = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 }
type Unit = keyof typeof MULTIPLES

/** A number and a unit: `500MB`, `1.5GiB`. */
export const SIZE = /^([1-9][0-9]{0,8}(?:[.][0-9]{1,3})?)(B|[kMGT]B|[KMGT]iB)$/

/** The size in bytes, rounded down; undefined if the text is not a SIZE. */
export function parseSize(text: string): number | undefined {
  const [, number, unit] = SIZE.exec(text) ?? []
  return unit === undefined ? undefined : Math.floor(Number(number) * MULTIPLES[unit as Unit])
}

/** Bytes with the largest unit that divides them: 67108864 → `64MiB`. */
export function formatSize(bytes: number): string {
  const unit = (['TiB', 'GiB', 'MiB', 'KiB'] as const).find((name) => bytes % MULTIPLES[name] === 0) ?? 'B'
  return `${bytes / MULTIPLES[unit]}${unit}`
}
