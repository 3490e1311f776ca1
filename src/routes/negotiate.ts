import type { FastifyRequest } from 'fastify'
import Negotiator from 'negotiator'
import { Problem } from '../problems.ts'

/** A parameter of a media type, except its weight (RFC 9110, sections 5.6.6 and 12.4.2). */
const PARAMETER = /;\s*(?!q\s*=)[^\s;,="]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*)/gi

/**
 * Returns the available media type that Accept prefers, or the first if it has no preference. Parameters are ignored, otherwise
 * `application/json; charset=utf-8` would match nothing.
 * @throws Problem not_acceptable
 */
export function negotiate<T extends string>({ headers }: FastifyRequest, available: readonly T[]): T {
  const accept = headers.accept?.replaceAll(PARAMETER, '') || '*/*'
  const type = new Negotiator({ headers: { accept } }).mediaType([...available])
  if (type !== undefined) return type as T
  throw new Problem('not_acceptable', `The Accept header allows none of ${available.join(', ')}.`)
}
