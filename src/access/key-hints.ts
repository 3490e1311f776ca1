import type { IncomingHttpHeaders } from 'node:http'

/** Headers in which other APIs take keys. */
const OTHER_HEADERS = [
  'x-api-key',
  'api-key',
  'apikey',
  'x-apikey',
  'x-auth-token',
  'x-access-token',
  'proxy-authorization',
]

/** Schemes of other APIs. No other part of the header is repeated in a message: it may be a key. */
const OTHER_SCHEME = /^(basic|digest|token|apikey|api-key|key|jwt|oauth|negotiate|aws4-hmac-sha256) /i

const FORM = 'Authorization: Bearer <key>'

/** What a person who sends no valid Authorization header must change, as a sentence. It repeats nothing of the header. */
export function headerHint(headers: IncomingHttpHeaders): string {
  const { authorization } = headers
  if (authorization === undefined) {
    const other = OTHER_HEADERS.find((name) => headers[name] !== undefined)
    if (other !== undefined) return `The header ${other} is not read. Send the key as ${FORM}.`
    return `An API key is required: ${FORM}. "sluice keys create" makes one.`
  }
  const [, scheme] = OTHER_SCHEME.exec(authorization) ?? []
  if (scheme !== undefined)
    return `The scheme must be Bearer, not ${scheme}: ${FORM}${/basic/i.test(scheme) ? ' (curl -H, not -u)' : ''}.`
  return `The Authorization header is malformed. It must be: Bearer <key>. ${malformation(authorization)}`.trimEnd()
}

function malformation(header: string): string {
  const key = header.replace(/^bearer[\s:]*/i, '')
  if (key === '') return 'There is no key after Bearer: the variable that it comes from may be empty.'
  if (/^bearer\s/i.test(key)) return 'It has Bearer twice.'
  if (/["'`\u2018-\u201f]/.test(key)) return 'Remove the quotes around the key.'
  if (/^[$<{%]/.test(key))
    return 'It has a placeholder instead of a key. A shell replaces variables within double quotes only.'
  if (/\s/.test(key)) return 'There is white space within the key.'
  if (/^bearer:/i.test(header)) return 'There is a colon after Bearer.'
  if (/^bearer\S/i.test(header)) return 'The space after Bearer is missing.'
  return key === header ? 'The word Bearer before the key is missing.' : 'The key contains a character that no key has.'
}

/** The form of a key that Sluice made: see generateKey. The first key (SLUICE_BOOTSTRAP_KEY) has any form and length. */
const OWN_KEY = /^sluice_[0-9a-f]{12}_[\w-]{43}$/
const OWN_KEY_BEGIN = /^sluice_[0-9a-f]{12}_/
const OWN_KEY_LENGTH = 63

/** Why a key may be unknown, as a sentence, by its form alone. */
export function unknownKeyHint(token: string): string {
  if (/^[0-9a-f]{12}$/.test(token))
    return 'It looks like the id of a key. Send the key itself, which begins with sluice_.'
  if (token.startsWith('eyJ'))
    return 'It looks like a JWT. Sluice has its own API keys: "sluice keys create" makes one.'
  if (!token.startsWith('sluice_')) return 'Keys from "sluice keys create" begin with sluice_.'
  if (OWN_KEY.test(token))
    return 'It may belong to another server or database. "sluice keys list" shows the ids of all keys.'
  const isOwn = OWN_KEY_BEGIN.test(token)
  if (isOwn && token.length === OWN_KEY_LENGTH) return 'It has a wrong character: copy it again.'
  if (isOwn && token.length < OWN_KEY_LENGTH)
    return `It has ${token.length} characters instead of ${OWN_KEY_LENGTH}: copy all of it.`
  return 'It may be copied incorrectly, or belong to another server or database. "sluice keys list" shows the ids of all keys.'
}

/** The id within a key that someone sent or typed in place of its id. Messages must not repeat the key. */
export const idInKey = (text: string): string | undefined => /^sluice_([0-9a-f]{12})_/.exec(text)?.[1]
