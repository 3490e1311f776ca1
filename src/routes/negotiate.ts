import type { FastifyRequest } from 'fastify'
import Negotiator from 'negotiator'
import { Problem } from '../problems.ts'
import { COMPRESSION } from './compression.ts'

/** Among codings with the same weight, the preferred one. The package @types/negotiator lacks this parameter. */
type ChooseEncoding = (available: readonly string[], options: { preferred: readonly string[] }) => string | undefined

/** Depends on the response only through these two headers of the request. */
export const VARY = 'accept, accept-encoding'

/** A weight (RFC 9110, section 12.4.2). */
const WEIGHT = /q\s*=\s*(?:[01](?:\.\d*)?|\.\d+)\s*(?:[;,]|$)/.source
/** A parameter of a media type, with or without a value, but not its weight (RFC 9110, section 5.6.6). */
const PARAMETER = new RegExp(`;\\s*(?!${WEIGHT})[^\\s;,="]+(?:\\s*=\\s*(?:"(?:[^"\\\\]|\\\\.)*"|[^\\s;,"]*))?`, 'gi')
const MEDIA_RANGE = /(?:^|,)\s*[^\s,;/]+\/[^\s,;/]+\s*(?:[;,]|$)/

/**
 * Returns the available media type that Accept prefers, or the first if it has no preference. Parameters are ignored, otherwise
 * `application/json; charset=utf-8` would match nothing. So is what is malformed (RFC 9110, section 12.5.1).
 * @throws Problem not_acceptable
 */
export function negotiate<T extends string>({ headers }: FastifyRequest, available: readonly T[]): T {
  const ranges = headers.accept?.replaceAll(PARAMETER, '') ?? ''
  const accept = MEDIA_RANGE.test(ranges) ? ranges : '*/*'
  const type = new Negotiator({ headers: { accept } }).mediaType([...available])
  if (type !== undefined) return type as T
  throw new Problem(
    'not_acceptable',
    `The Accept header allows none of ${available.join(', ')}. Name one of them, or omit the header.`,
  )
}

/**
 * Chooses the coding of the response, and leaves only that one in Accept-Encoding for the library that compresses: it does not
 * know that `*;q=0` excludes a response without a coding (RFC 9110, section 12.5.3).
 * @param otherwise what is chosen if the client accepts both: a coding, or none
 * @returns whether a response without a coding is acceptable
 * @throws Problem not_acceptable
 */
export function negotiateEncoding({ headers }: FastifyRequest, otherwise: 'compressed' | 'identity'): boolean {
  const header = headers['accept-encoding']
  if (header === undefined) return true
  const negotiator = new Negotiator({ headers: { 'accept-encoding': header.replaceAll(/\bx-gzip\b/gi, 'gzip') } })
  const identity = negotiator.encoding(['identity']) !== undefined
  const { encodings } = COMPRESSION
  const choose: ChooseEncoding = negotiator.encoding.bind(negotiator)
  const prefersIdentity = identity && otherwise === 'identity'
  const chosen = prefersIdentity ? 'identity' : choose([...encodings, 'identity'], { preferred: encodings })
  if (chosen === undefined) {
    const detail = `The Accept-Encoding header allows none of ${encodings.join(', ')}, identity. Name one of them, or omit the header.`
    throw new Problem('not_acceptable', detail)
  }
  if (chosen === 'identity') delete headers['accept-encoding']
  else headers['accept-encoding'] = chosen
  return identity
}
