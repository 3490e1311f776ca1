export interface Preferences {
  /** `return=minimal`: leave out the results of what went well. */
  minimal: boolean
  /** `handling=strict`: all or nothing. */
  strict: boolean
}

/**
 * Reads Prefer (RFC 7240). Preferences that are unknown are passed over, and of one that is repeated the first counts, as
 * section 2 has it.
 */
export function readPrefer(header: string | string[] | undefined): Preferences {
  if (header === undefined) return { minimal: false, strict: false }
  const seen = new Map<string, string>()
  for (const preference of String(header).split(',')) {
    const [name = '', value = ''] = (preference.split(';')[0] as string)
      .split('=')
      .map((part) => part.trim().toLowerCase().replaceAll('"', ''))
    if (!seen.has(name)) seen.set(name, value)
  }
  return { minimal: seen.get('return') === 'minimal', strict: seen.get('handling') === 'strict' }
}

/** What goes into Preference-Applied (RFC 7240, section 3). */
export function preferenceApplied({ minimal, strict }: Preferences): string | undefined {
  const applied = [...(minimal ? ['return=minimal'] : []), ...(strict ? ['handling=strict'] : [])]
  return applied.length > 0 ? applied.join(', ') : undefined
}
