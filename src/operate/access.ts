import { type Fault, Problem } from '../lib/problems.ts'
import { admits, hasDotSegment } from '../lib/source-prefix.ts'
import type { Key, Scope } from './keys.ts'

/** RFC 6750, section 2.1. */
export const BEARER = /^Bearer +([A-Za-z0-9._~+/=-]+)$/i

const CHALLENGE = { 'www-authenticate': 'Bearer realm="sluice"' }

/** @throws Problem unauthorized */
export function readToken(authorization: string | undefined): string {
  if (authorization === undefined) {
    throw new Problem('unauthorized', 'An API key is needed: Authorization: Bearer <key>.', { headers: CHALLENGE })
  }
  const token = BEARER.exec(authorization)?.[1]
  if (token === undefined) {
    throw new Problem('unauthorized', 'The Authorization header is malformed; it must be: Bearer <key>.', {
      headers: CHALLENGE,
    })
  }
  return token
}

/** Whoever holds the secret may know why it no longer works; who does not, learns nothing. */
export function checkKey(key: Key | undefined, scope: Scope, now = Date.now()): Key {
  const invalid = (why: string) =>
    new Problem('unauthorized', why, {
      headers: { 'www-authenticate': `${CHALLENGE['www-authenticate']}, error="invalid_token"` },
    })
  if (key === undefined) throw invalid('The API key is not known.')
  if (key.revokedAt !== null) throw invalid('The API key was revoked.')
  if (key.expiresAt !== null && key.expiresAt.getTime() <= now)
    throw invalid(`The API key expired at ${key.expiresAt.toISOString()}.`)
  if (!key.scopes.includes(scope)) {
    throw new Problem('forbidden', `The API key ${key.id} lacks the scope "${scope}".`, {
      headers: { 'www-authenticate': `${CHALLENGE['www-authenticate']}, error="insufficient_scope", scope="${scope}"` },
    })
  }
  return key
}

/**
 * Why a stream of this key has to end: the key is no longer valid, or lost the scope or a source prefix. Undefined when it
 * may do all that it could do before.
 * @param now the key as it is now; undefined: there is no such key any more
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

/** Why the key may not use this source, as a sentence; undefined when it may. */
export function sourceRefusal({ id, sourcePrefixes }: Key, source: string): string | undefined {
  if (admits(sourcePrefixes, source)) return undefined
  if (hasDotSegment(source))
    return `The source has a segment "." or "..", which the API key ${id} may not use: it is bound to source prefixes.`
  return (
    `The API key ${id} is bound to the source prefixes ${sourcePrefixes.join(' ')}: each stands for itself and for what ` +
    'continues it with "/", ":" or "." (after the host of a URL, with "/" only); with * at its end, for all that starts so.'
  )
}

export function sourceFault(key: Key, source: string, index: number): Fault | undefined {
  const detail = sourceRefusal(key, source)
  return detail === undefined ? undefined : { index, pointer: '/source', code: 'source_forbidden', detail }
}
