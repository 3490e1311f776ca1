import type { Counts } from '../../../src/schemas/results.ts'
import type { HttpResponse } from './client.ts'

export interface ProblemDocument {
  code: string
  retryable: boolean
  outcome: string
  detail: string
  errors: Refusal[]
  /** The report of a line stream. */
  report: LinesReport | undefined
}

/** Why a record or a line was not stored. */
export interface Refusal {
  index?: number
  line?: number
  pointer?: string
  code: string
}

export interface LinesReport {
  counts: Counts
  lines: number
  committedLines: number
  rejections: Refusal[]
  rejectionsOmitted: number
}

export type Complain = (rule: string, detail: string, identity?: string) => void

/** The codes that the model can cause, with their documented status. */
const STATUS: Record<string, number> = {
  ...{ invalid_json: 400, not_found: 404, source_forbidden: 403, conflict: 409, record_too_large: 413 },
  ...{ rejected: 422, strict_refused: 422, wrong_type: 422, required: 422, unknown_field: 422, invalid_time: 422 },
  ...{ repeated_field: 422, unstorable_string: 422, unstorable_number: 422, refused_by_database: 422 },
  // overloaded: the request was not flushed within its hold window. Shedding is off: see scene.ts.
  ...{ draining: 503, database_unavailable: 503, overloaded: 503, query_timeout: 503 },
}
const RETRYABLE = new Set(['draining', 'database_unavailable', 'overloaded', 'query_timeout'])

/** Reads a refusal, and checks that a client can act on it. */
export function readProblem({ status, headers, text }: HttpResponse, complain: Complain): ProblemDocument | undefined {
  const shown = `${status} ${text.slice(0, 2000)}`
  if (status >= 500 && status !== 503) complain('No response may have a 5xx status other than 503.', shown)
  let document: Record<string, unknown>
  try {
    document = JSON.parse(text)
  } catch {
    complain('Every refusal must be a problem document.', shown)
    return undefined
  }
  const { code, retryable, outcome, detail, errors } = document
  if (!headers['content-type']?.startsWith('application/problem+json') || document.status !== status)
    complain('Every refusal must be a problem document.', `${headers['content-type']} ${shown}`)
  if (typeof code !== 'string' || typeof retryable !== 'boolean' || typeof outcome !== 'string') {
    complain('Every refusal must have code, retryable and outcome.', shown)
    return undefined
  }
  if (!['not_written', 'unknown'].includes(outcome)) complain('The outcome must be not_written or unknown.', shown)
  if (status !== 500 && STATUS[code] !== status) complain('The code of a refusal must match its status.', shown)
  if (status === 503 && (headers['retry-after'] === undefined || !retryable))
    complain('A 503 must be retryable and have Retry-After.', shown)
  if (status < 500 && retryable !== RETRYABLE.has(code))
    complain('A request that is refused for its content must not be retryable.', shown)
  const report = 'lines' in document ? (document as unknown as LinesReport) : undefined
  return { code, retryable, outcome, detail: String(detail), errors: (errors ?? []) as Refusal[], report }
}

/** The code of a refused request, given the codes of all its records. */
export function codeForAll(codes: readonly string[]): string {
  const statuses = new Set(codes.map((code) => STATUS[code]))
  if (statuses.size > 1) return 'rejected'
  return (
    ({ 403: 'source_forbidden', 409: 'conflict', 413: 'record_too_large' } as Record<number, string>)[
      [...statuses][0] as number
    ] ?? 'rejected'
  )
}
