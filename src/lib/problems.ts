/** Was anything written? What a caller must know before it sends again. */
export type Outcome = 'not_written' | 'unknown'

/** One place in the input that is wrong. */
export interface Fault {
  /** Index of the record in the request's body. */
  index?: number
  /** JSON Pointer (RFC 6901) into that record, or the name of a header or query parameter. */
  pointer?: string
  /** The record's identity, as far as it is known. */
  source?: string
  id?: string
  code: ProblemCode
  detail: string
}

interface Entry {
  status: number
  title: string
  /** May the same request succeed later, unchanged? */
  retryable: boolean
}

/**
 * Every refusal there is. The codes are part of the API: they may be added to, never renamed.
 * The same table is printed in the OpenAPI document.
 */
export const PROBLEMS = {
  // The request as a whole
  invalid_json: { status: 400, title: 'The body is not JSON', retryable: false },
  invalid_utf8: { status: 400, title: 'The body is not UTF-8', retryable: false },
  empty_body: { status: 400, title: 'The body is empty', retryable: false },
  incomplete_body: { status: 400, title: 'The body ended early', retryable: true },
  corrupt_encoding: { status: 400, title: 'The compressed body is damaged', retryable: false },
  invalid_request: { status: 400, title: 'The request is malformed', retryable: false },
  invalid_query: { status: 400, title: 'A query parameter is wrong', retryable: false },
  invalid_cursor: { status: 400, title: 'The cursor is not one of ours', retryable: false },
  cursor_ahead: { status: 409, title: 'The database was set back behind this cursor', retryable: false },
  invalid_header: { status: 400, title: 'A header is wrong', retryable: false },
  unauthorized: { status: 401, title: 'No valid API key', retryable: false },
  forbidden: { status: 403, title: 'The key lacks a scope', retryable: false },
  not_found: { status: 404, title: 'Nothing here', retryable: false },
  method_not_allowed: { status: 405, title: 'The method is not allowed here', retryable: false },
  not_acceptable: { status: 406, title: 'None of our media types is accepted', retryable: false },
  request_timeout: { status: 408, title: 'The request came too slowly', retryable: true },
  body_too_large: { status: 413, title: 'The body is too large', retryable: false },
  inflates_too_far: { status: 413, title: 'The body inflates to too many times its size', retryable: false },
  too_complex: { status: 413, title: 'The body, or a record, has too many parts', retryable: false },
  too_many_records: { status: 413, title: 'The batch holds too many records', retryable: false },
  unsupported_media_type: { status: 415, title: 'The media type is not supported', retryable: false },
  unsupported_charset: { status: 415, title: 'The charset is not supported', retryable: false },
  unsupported_encoding: { status: 415, title: 'The content encoding is not supported', retryable: false },
  rate_limited: { status: 429, title: 'The key is over its rate', retryable: true },
  headers_too_large: { status: 431, title: 'The headers are too large', retryable: false },

  // A record
  source_forbidden: { status: 403, title: 'The key may not use this source', retryable: false },
  conflict: { status: 409, title: 'Another record has this identity', retryable: false },
  record_too_large: { status: 413, title: 'A record is too large', retryable: false },
  rejected: { status: 422, title: 'No record was accepted', retryable: false },
  strict_refused: { status: 422, title: 'The batch was refused as a whole', retryable: false },
  wrong_type: { status: 422, title: 'A value has the wrong type', retryable: false },
  required: { status: 422, title: 'A required field is missing', retryable: false },
  invalid_value: { status: 422, title: 'A value is not allowed', retryable: false },
  invalid_time: { status: 422, title: 'A time is not one that can be kept', retryable: false },
  unknown_field: { status: 422, title: 'A field is unknown', retryable: false },
  repeated_field: { status: 422, title: 'A field occurs twice', retryable: false },
  unstorable_string: { status: 422, title: 'PostgreSQL cannot hold a string', retryable: false },
  unstorable_number: { status: 422, title: 'PostgreSQL cannot hold a number', retryable: false },
  too_deep: { status: 422, title: 'The data is nested too deeply', retryable: false },
  refused_by_database: { status: 422, title: 'PostgreSQL refused the record', retryable: false },

  // Ours
  internal_error: { status: 500, title: 'A defect of this service', retryable: true },
  overloaded: { status: 503, title: 'More than this instance can take', retryable: true },
  draining: { status: 503, title: 'This instance is shutting down', retryable: true },
  database_unavailable: { status: 503, title: 'The database is not available', retryable: true },
  query_timeout: { status: 503, title: 'The query took too long', retryable: true },
  storage_full: { status: 507, title: 'The storage budget is spent', retryable: true },
} as const satisfies Record<string, Entry>

/** In seconds. Space is freed by people and by retention: not at once. */
const RETRY_AFTER: Record<number, string> = { 503: '1', 507: '30' }

export type ProblemCode = keyof typeof PROBLEMS

export interface ProblemOptions {
  outcome?: Outcome
  errors?: Fault[]
  /** Further members of the problem document (RFC 9457, section 3.2). */
  extra?: Record<string, unknown>
  headers?: Record<string, string>
  cause?: unknown
}

/** A refusal, thrown anywhere and rendered once, as application/problem+json (RFC 9457). */
export class Problem extends Error {
  override name = 'Problem'
  readonly code: ProblemCode
  readonly status: number
  readonly outcome: Outcome
  readonly errors: Fault[]
  readonly extra: Record<string, unknown>
  readonly headers: Record<string, string>

  constructor(code: ProblemCode, detail: string, options: ProblemOptions = {}) {
    super(detail, { cause: options.cause })
    this.code = code
    this.status = PROBLEMS[code].status
    this.outcome = options.outcome ?? 'not_written'
    this.errors = options.errors ?? []
    this.extra = options.extra ?? {}
    // A retryable status without a hint makes every client guess (RFC 9110, section 10.2.3).
    const retryAfter = RETRY_AFTER[this.status]
    this.headers = { ...(retryAfter === undefined ? {} : { 'retry-after': retryAfter }), ...options.headers }
  }

  /** The problem document's members. */
  toDocument(instance: string, requestId: string): Record<string, unknown> {
    const { title, retryable } = PROBLEMS[this.code]
    return {
      type: `urn:sluice:problem:${this.code}`,
      title,
      status: this.status,
      detail: this.message,
      instance,
      code: this.code,
      retryable,
      outcome: this.outcome,
      ...(this.errors.length > 0 ? { errors: this.errors } : {}),
      ...this.extra,
      requestId,
    }
  }
}
