import type { IncomingHttpHeaders } from 'node:http'
import { quoted } from '../lib/quoted.ts'
import { admits, hasDotSegment } from '../lib/source-prefix.ts'
import { type Fault, Problem } from '../problems.ts'
import type { Key, Scope } from './key.ts'
import { headerHint, unknownKeyHint } from './key-hints.ts'

/** RFC 6750, section 2.1. */
export const BEARER = /^Bearer +([A-Za-z0-9._~+/=-]+)$/i

const CHALLENGE = { 'www-authenticate': 'Bearer realm="sluice"' }

/** @throws Problem unauthorized */
export function readToken(headers: IncomingHttpHeaders): string {
  const token = BEARER.exec(headers.authorization ?? '')?.[1]
  if (token === undefined) throw new Problem('unauthorized', headerHint(headers), { headers: CHALLENGE })
  return token
}

const invalidToken = (why: string) =>
  new Problem('unauthorized', why, {
    headers: { 'www-authenticate': `${CHALLENGE['www-authenticate']}, error="invalid_token"` },
  })

export const unknownKey = (token: string) => invalidToken(`The API key is not known. ${unknownKeyHint(token)}`)

/**
 * Tells a client that has the secret why the key does not work. Others learn nothing.
 * @throws Problem unauthorized, forbidden
 */
export function checkKey(key: Key | undefined, scope: Scope, now = Date.now()): Key {
  if (key === undefined) throw invalidToken('The API key no longer exists.')
  if (key.revokedAt !== null)
    throw invalidToken(`The API key ${key.id} was revoked at ${key.revokedAt.toISOString()}. ${ANOTHER}`)
  if (key.expiresAt !== null && key.expiresAt.getTime() <= now)
    throw invalidToken(`The API key ${key.id} expired at ${key.expiresAt.toISOString()}. ${ANOTHER}`)
  if (!key.scopes.includes(scope)) {
    throw new Problem('forbidden', lacksScope(key, scope), {
      headers: { 'www-authenticate': `${CHALLENGE['www-authenticate']}, error="insufficient_scope", scope="${scope}"` },
    })
  }
  return key
}

const ANOTHER = 'Use another one: "sluice keys create" makes it.'

const lacksScope = ({ id, scopes }: Key, scope: Scope) =>
  `The API key ${id} lacks the scope "${scope}"; it has ${scopes.join(', ')}. The scopes of a key cannot be changed: use another one ("sluice keys create --scope ${scope}").`

/**
 * Why a stream of this key must end: the key is no longer valid, or has lost the scope or a source prefix. undefined: the key has
 * lost no right.
 * @param now the current state of the key; undefined: the key no longer exists
 */
export function lostRight(before: Key, now: Key | undefined, scope: Scope): Problem | undefined {
  try {
    const { id, sourcePrefixes } = checkKey(now, scope)
    const unbound = sourcePrefixes.length === 0
    const keepsAll =
      before.sourcePrefixes.length > 0 && before.sourcePrefixes.every((one) => sourcePrefixes.includes(one))
    if (unbound || keepsAll) return undefined
    return new Problem('source_forbidden', `The source prefixes of the API key ${id} were changed.`)
  } catch (error) {
    return error as Problem
  }
}

/** A sentence that says why the key may not use this source; undefined: it may. */
export function sourceRefusal({ id, sourcePrefixes }: Key, source: string): string | undefined {
  if (admits(sourcePrefixes, source)) return undefined
  if (hasDotSegment(source))
    return `The source has a "." or ".." segment, which the API key ${id} may not use because it has source prefixes.`
  const shown = sourcePrefixes.slice(0, MAX_PREFIXES).map((prefix) => prefix.slice(0, MAX_PREFIX_LENGTH))
  const more = sourcePrefixes.length > shown.length ? ` and ${sourcePrefixes.length - shown.length} more` : ''
  return (
    `The API key ${id} may not use the source ${quoted(source)}. It is limited to the source prefixes ${shown.join(' ')}${more}: each allows the ` +
    'source of that name and every source that continues it with "/", ":" or "." (after the host of a URL, only with "/"). A prefix that ' +
    'ends with * allows every source that starts with it.'
  )
}

/** How much of the prefixes a message shows. There may be a hundred of 512 bytes, and ten thousand such messages in a response. */
const MAX_PREFIXES = 10
const MAX_PREFIX_LENGTH = 60

export function sourceFault(key: Key, source: string, index: number): Fault | undefined {
  const detail = sourceRefusal(key, source)
  return detail === undefined ? undefined : { index, pointer: '/source', code: 'source_forbidden', detail }
}
