import type { FastifyRequest } from 'fastify'
import { before } from '../lib/before.ts'
import { Problem } from '../problems.ts'

/** @throws Problem unsupported_media_type */
export function requireJson(request: FastifyRequest): void {
  const type = before(request.headers['content-type'] ?? '', ';')
  if (type.trim().toLowerCase() === 'application/json') return
  const headers = { accept: 'application/json' }
  const detail = "The Content-Type must be application/json (curl -H 'Content-Type: application/json')."
  throw new Problem('unsupported_media_type', detail, { headers })
}
