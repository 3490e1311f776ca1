import type { FastifyRequest } from 'fastify'
import Negotiator from 'negotiator'
import { Problem } from '../lib/problems.ts'

/** The one of our media types that Accept likes best; the first where it does not say. @throws Problem not_acceptable */
export function negotiate<T extends string>(request: FastifyRequest, available: readonly T[]): T {
  const type = new Negotiator(request.raw).mediaType([...available])
  if (type !== undefined) return type as T
  throw new Problem('not_acceptable', `Accept names none of ${available.join(', ')}.`)
}
