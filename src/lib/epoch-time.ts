/** Units of a number that counts from 1970, with the number of digits after the decimal point of its seconds. */
export const EPOCH_UNITS = { seconds: 0, milliseconds: 3, microseconds: 6, nanoseconds: 9 } as const

export type EpochUnit = keyof typeof EPOCH_UNITS

/** The unit of a number, by how many digits it has before its decimal point. Right for the years 1973 to 2286. */
const UNIT_OF_DIGITS: Record<number, EpochUnit> = {
  9: 'seconds',
  10: 'seconds',
  12: 'milliseconds',
  13: 'milliseconds',
  15: 'microseconds',
  16: 'microseconds',
  18: 'nanoseconds',
  19: 'nanoseconds',
}

/** The unit with which a number is a time of this age; undefined: there is none, or the text is no number. */
export function epochUnit(text: string): EpochUnit | undefined {
  return UNIT_OF_DIGITS[/^-?(\d+)(?:\.\d+)?$/.exec(text)?.[1]?.length ?? 0]
}

/**
 * A number since 1970 as RFC 3339 in UTC; undefined if it is no number, or its year does not have four digits. Works on the digits: a
 * double has too few of them for microseconds.
 */
export function readEpoch(text: string, unit: EpochUnit): string | undefined {
  const [, sign, whole, fraction = '', exponent = '0'] =
    /^([+-]?)(\d{1,30})(?:\.(\d{1,30}))?(?:[eE]([+-]?\d{1,2}))?$/.exec(text) ?? []
  if (whole === undefined) return undefined
  const scale = EPOCH_UNITS[unit] + fraction.length - Number(exponent)
  const digits = BigInt(`${sign === '-' ? '-' : ''}${whole}${fraction}`) * 10n ** BigInt(Math.max(-scale, 0))
  const second = 10n ** BigInt(Math.max(scale, 0))
  const part = ((digits % second) + second) % second
  const seconds = Number((digits - part) / second)
  if (seconds > 253_402_300_799 || seconds < -62_167_219_200) return undefined
  const decimals = scale > 0 ? String(part).padStart(scale, '0').replace(/0+$/, '') : ''
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}${decimals === '' ? '' : `.${decimals}`}Z`
}
