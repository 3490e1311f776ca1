import { hideUser } from './hide-user.ts'

/** RFC 6454, section 6.1: a scheme, a host and perhaps a port. Apps have schemes of their own, such as `capacitor`. */
const ORIGIN = /^[a-z][a-z\d+.-]*:\/\/(?:[a-z\d._-]+|\[[\da-f:.]+\])(?::\d+)?$/

/**
 * Reads origins that are separated by commas, or `*` for all. Browsers send an origin in one form, and it is compared as text.
 * @throws Error that says what is wrong, and what to write instead
 */
export function parseOrigins(text: string): '*' | ReadonlySet<string> {
  const origins = text.split(',').map((part) => part.trim())
  if (origins.length === 1 && origins[0] === '*') return '*'
  for (const origin of origins) check(origin)
  return new Set(origins)
}

function check(origin: string): void {
  if (origin === '') throw new Error('has an empty entry, but must be origins like https://app.example.com, or *')
  const refuse = (why: string) => new Error(`has ${JSON.stringify(hideUser(origin))}, but ${why}`)
  if (/[;\s]/.test(origin)) throw refuse('origins are separated by commas')
  if (/^file:/i.test(origin)) throw refuse('a page from a file has the origin null. Serve it over HTTP, or use *')
  if (origin === '*') throw refuse('it allows every origin, so it must be alone')
  if (origin === 'null') throw refuse('every page in a sandbox has this origin. To allow it, use *')
  if (origin.includes('*')) throw refuse('* cannot be a part of an origin. List each origin')
  if (!origin.includes('://'))
    throw refuse(`an origin begins with its scheme, such as https://${origin.slice(origin.lastIndexOf('@') + 1)}`)
  if (/^https?:/i.test(origin)) {
    const normal = URL.canParse(origin) ? new URL(origin).origin : 'https://app.example.com'
    if (origin !== normal) throw refuse(`browsers write an origin like ${normal}`)
  }
  if (!ORIGIN.test(origin)) throw refuse('an origin is only a scheme, a host and perhaps a port')
}
