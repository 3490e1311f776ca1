import type { Answer } from './client.ts'

/** What a refusal says. */
export interface ProblemDocument {
  code: string
  retryable: boolean
  outcome: string
  detail: string
  errors: Refusal[]
  /** Of lines. */
  report: LinesReport | undefined
}

/** Why one record, or line, was refused. */
export interface Refusal {
  index?: number
  line?: number
  pointer?: string
  code: string
}

export interface Counts {
  created: number
  duplicate: number
  conflict: number
  rejected: number
}

export interface LinesReport {
  counts: Counts
  lines: number
  committedLines: number
  rejections: Refusal[]
  rejectionsOmitted: number
}

export type Complain = (rule: string, detail: string, identity?: string) => void

/** Codes that the model knows how to cause, with the status that the README gives them. */
const STATUS: Record<string, number> = {
  ...{ invalid_json: 400, not_found: 404, source_forbidden: 403, conflict: 409, record_too_large: 413 },
  ...{ rejected: 422, strict_refused: 422, wrong_type: 422, required: 422, unknown_field: 422, invalid_time: 422 },
  ...{ repeated_field: 422, unstorable_string: 422, unstorable_number: 422, refused_by_database: 422 },
  // overloaded: no turn at the database came within the hold window. Nothing is shed: see scene.ts.
  ...{ draining: 503, database_unavailable: 503, overloaded: 503, query_timeout: 503 },
}
const RETRYABLE = new Set(['draining', 'database_unavailable', 'overloaded', 'query_timeout'])

/** Reads a refusal, and complains about one that nobody can act on. */
export function readProblem({ status, headers, text }: Answer, complain: Complain): ProblemDocument | undefined {
  const shown = `${status} ${text.slice(0, 2000)}`
  if (status >= 500 && status !== 503) complain('No answer is a 5xx other than 503.', shown)
  let document: Record<string, unknown>
  try {
    document = JSON.parse(text)
  } catch {
    complain('Every refusal is a problem document.', shown)
    return undefined
  }
  const { code, retryable, outcome, detail, errors } = document
  if (!headers['content-type']?.startsWith('application/problem+json') || document.status !== status)
    complain('Every refusal is a problem document.', `${headers['content-type']} ${shown}`)
  if (typeof code !== 'string' || typeof retryable !== 'boolean' || typeof outcome !== 'string') {
    complain('Every refusal says its code, whether it is retryable, and the outcome.', shown)
    return undefined
  }
  if (!['not_written', 'unknown'].includes(outcome)) complain('The outcome is one of two.', shown)
  if (status !== 500 && STATUS[code] !== status) complain('A refusal has a code that fits what happened.', shown)
  if (status === 503 && (headers['retry-after'] === undefined || !retryable))
    complain('A 503 is retryable and says when.', shown)
  if (status < 500 && retryable !== RETRYABLE.has(code))
    complain('What was refused for its content is not retryable.', shown)
  const report = 'lines' in document ? (document as unknown as LinesReport) : undefined
  return { code, retryable, outcome, detail: String(detail), errors: (errors ?? []) as Refusal[], report }
}

/** The code of a request none of whose records was stored, by the codes of these. */
export function codeForAll(codes: readonly string[]): string {
  const statuses = new Set(codes.map((code) => STATUS[code]))
  if (statuses.size > 1) return 'rejected'
  return (
    ({ 403: 'source_forbidden', 409: 'conflict', 413: 'record_too_large' } as Record<number, string>)[
      [...statuses][0] as number
    ] ?? 'rejected'
  )
}
