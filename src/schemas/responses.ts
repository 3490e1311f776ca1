import { type TSchema, Type } from '@sinclair/typebox'
import { ProblemSchema } from './problem.ts'

/** Descriptions of headers, by name. */
type Headers = Record<string, { type: string; description: string }>

export const text = (description: string) => ({ type: 'string', description })

/** The headers of every response. */
export const HEADERS: Headers = { 'X-Request-Id': text('Identifies the request, as in the log') }

/** A response with JSON, for the OpenAPI document. */
export const json = (schema: TSchema, description: string, headers: Headers = {}) => ({
  description,
  headers: { ...HEADERS, ...headers },
  content: { 'application/json': { schema: Type.Ref(schema) } },
})

/** The refusals of a route. @param headers its own ones */
export function refusals(headers: Headers = {}) {
  const content = { 'application/problem+json': { schema: Type.Ref(ProblemSchema) } }
  const all = { ...HEADERS, 'Retry-After': text('In how many seconds to try again'), ...headers }
  return {
    '4xx': {
      description: 'The request was refused',
      headers: { ...all, 'WWW-Authenticate': text('With 401 and 403: what the key lacks') },
      content,
    },
    '5xx': { description: 'The service could not process the request', headers: all, content },
  }
}
