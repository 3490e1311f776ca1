import { admits, hasDotSegment } from '../lib/source-prefix.ts'
import { type Fault, Problem } from '../problems.ts'
import type { Key, Scope } from './key.ts'

/** RFC 6750, section 2.1. */
export const BEARER = /^Bearer +([A-Za-z0-9._~+/=-]+)$/i

const CHALLENGE = { 'www-authenticate': 'Bearer realm="sluice"' }

/** @throws Problem unauthorized */
export function readToken(authorization: string | undefined): string {
  if (authorization === undefined) {
    throw new Problem('unauthorized', 'An API key is required: Authorization: Bearer <key>.', { headers: CHALLENGE })
  }
  const token = BEARER.exec(authorization)?.[1]
  if (token === undefined) {
    throw new Problem('unauthorized', 'The Authorization header is malformed. It must be: Bearer <key>.', {
      headers: CHALLENGE,
    })
  }
  return token
}

/**
 * Tells a client that has the secret why the key does not work. Others learn nothing.
 * @throws Problem unauthorized, forbidden
 */
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
  return (
    `The API key ${id} is limited to the source prefixes ${sourcePrefixes.join(' ')}: each allows the source of that name and ` +
    'every source that continues it with "/", ":" or "." (after the host of a URL, only with "/"). A prefix that ends with * ' +
    'allows every source that starts with it.'
  )
}

export function sourceFault(key: Key, source: string, index: number): Fault | undefined {
  const detail = sourceRefusal(key, source)
  return detail === undefined ? undefined : { index, pointer: '/source', code: 'source_forbidden', detail }
}
