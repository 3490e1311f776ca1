import type { FastifyReply, FastifyRequest, onRequestHookHandler } from 'fastify'
import type { Key } from '../access/key.ts'
import { Problem } from '../problems.ts'

/**
 * For routes about more than some sources: refuses keys with source prefixes.
 * @param purpose completes "To …, use a key without source prefixes."
 * @throws Problem forbidden
 */
export const requireAllSources =
  (purpose: string): onRequestHookHandler =>
  ({ key }: FastifyRequest, _reply: FastifyReply, done: (error?: Error) => void) => {
    const isLimited = (key as Key).sourcePrefixes.length > 0
    const detail = `The API key ${key?.id} is limited to source prefixes. To ${purpose}, use a key without source prefixes.`
    done(isLimited ? new Problem('forbidden', detail) : undefined)
  }
