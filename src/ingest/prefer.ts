import { before } from '../lib/before.ts'

export interface Preferences {
  /** `return=minimal`: omit the results of successes. */
  minimal: boolean
  /** `handling=strict`: store all records or none. */
  strict: boolean
}

/**
 * Reads Prefer (RFC 7240). According to section 2, unknown preferences are ignored, and the first of a repeated preference
 * counts.
 */
export function readPrefer(header: string | string[] | undefined): Preferences {
  if (header === undefined) return { minimal: false, strict: false }
  const seen = new Map<string, string>()
  for (const preference of String(header).split(',')) {
    const [name = '', value = ''] = before(preference, ';')
      .split('=')
      .map((part) => part.trim().toLowerCase().replaceAll('"', ''))
    if (!seen.has(name)) seen.set(name, value)
  }
  return { minimal: seen.get('return') === 'minimal', strict: seen.get('handling') === 'strict' }
}

/** The value of Preference-Applied (RFC 7240, section 3); undefined if no preference was applied. */
export function preferenceApplied({ minimal, strict }: Preferences): string | undefined {
  const applied = [...(minimal ? ['return=minimal'] : []), ...(strict ? ['handling=strict'] : [])]
  return applied.length > 0 ? applied.join(', ') : undefined
}
