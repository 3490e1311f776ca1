import type { FastifyRequest } from 'fastify'
import Negotiator from 'negotiator'
import { Problem } from '../lib/problems.ts'

/** A parameter of a media type, but for its weight (RFC 9110, sections 5.6.6 and 12.4.2). */
const PARAMETER = /;\s*(?!q\s*=)[^\s;,="]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*)/gi

/**
 * The one of our media types that Accept likes best; the first where it does not say. Parameters do not count, else who
 * asks for `application/json; charset=utf-8` would get nothing.
 * @throws Problem not_acceptable
 */
export function negotiate<T extends string>({ headers }: FastifyRequest, available: readonly T[]): T {
  const accept = headers.accept?.replaceAll(PARAMETER, '') || '*/*'
  const type = new Negotiator({ headers: { accept } }).mediaType([...available])
  if (type !== undefined) return type as T
  throw new Problem('not_acceptable', `Accept names none of ${available.join(', ')}.`)
}
