import leven from 'leven'

/** Nobody misspells a name of a few letters into a longer text. The bound also keeps the comparison cheap. */
const MAX_LENGTH = 40

/**
 * The known name that was probably meant. Letter case and separators do not count: `event_type` is near to `eventType`.
 * @param aliases other words for some of the names, in lower case and without separators. Those for names that are not known are ignored
 */
export function nearest<T extends string>(
  name: string,
  known: readonly T[],
  aliases: Readonly<Record<string, string>> = {},
): T | undefined {
  const given = plain(name)
  const meant = Object.hasOwn(aliases, given) ? aliases[given] : undefined
  return (
    known.find((one) => one === meant) ??
    known.find((one) => plainOf(one) === given) ??
    known.find((one) => isNear(given, plainOf(one)))
  )
}

/** Whether one word is probably a misspelling of the other: at most a third of its letters differ. */
export function isNear(one: string, other: string): boolean {
  const most = Math.min(one.length, other.length) / 3
  if (one.length > MAX_LENGTH || Math.abs(one.length - other.length) > most) return false
  return leven(one, other) <= most
}

/** The question for the end of a message, after a space; an empty text if no name is near. */
export function didYouMean(...names: Parameters<typeof nearest>): string {
  const found = nearest(...names)
  return found === undefined ? '' : ` Did you mean ${found}?`
}

/** Of the known names, which are few and fixed. Thousands of records may be refused for the same misspelling. */
const plainNames = new Map<string, string>()

function plainOf(known: string): string {
  const found = plainNames.get(known) ?? plain(known)
  plainNames.set(known, found)
  return found
}

const plain = (name: string) =>
  name
    .slice(0, MAX_LENGTH + 1)
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}]/gu, '')
