/** Whether anything was written. A client needs to know this before it sends the request again. */
export type Outcome = 'not_written' | 'unknown'

/** One fault in the input. */
export interface Fault {
  /** Index of the record in the request's body. */
  index?: number
  /** JSON Pointer (RFC 6901) into that record, or the name of a header or query parameter. */
  pointer?: string
  /** The record's identity and type, as far as they are known. */
  source?: string
  id?: string
  type?: string
  code: ProblemCode
  detail: string
}

interface Entry {
  status: number
  title: string
  /** Whether the same request can succeed later, unchanged. */
  retryable: boolean
}

/**
 * The error catalogue. The codes are part of the API: new ones may be added, but none may be renamed. The OpenAPI document
 * contains this table.
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
  invalid_offset: { status: 400, title: 'The offset is invalid', retryable: false },
  offset_ahead: { status: 409, title: 'The database was set back to before this offset', retryable: false },
  invalid_body: { status: 422, title: 'The body does not match its schema', retryable: false },
  invalid_header: { status: 400, title: 'A header is wrong', retryable: false },
  unauthorized: { status: 401, title: 'No valid API key', retryable: false },
  forbidden: { status: 403, title: 'The key lacks a scope', retryable: false },
  not_found: { status: 404, title: 'Not found', retryable: false },
  route_not_found: { status: 404, title: 'The API has no such path', retryable: false },
  method_not_allowed: { status: 405, title: 'The method is not allowed here', retryable: false },
  not_acceptable: { status: 406, title: 'None of the available media types is accepted', retryable: false },
  request_timeout: { status: 408, title: 'The request arrived too slowly', retryable: true },
  // Not 507: only a person or program that deletes a consumer makes room, so waiting does not help.
  too_many_consumers: { status: 409, title: 'There are too many consumers', retryable: false },
  precondition_failed: { status: 412, title: 'The condition of the request is not met', retryable: false },
  body_too_large: { status: 413, title: 'The body is too large', retryable: false },
  inflates_too_far: { status: 413, title: 'The compression ratio of the body is too high', retryable: false },
  too_complex: { status: 413, title: 'The body or a record has too many parts', retryable: false },
  too_many_records: { status: 413, title: 'The batch has too many records', retryable: false },
  uri_too_long: { status: 414, title: 'The path and query are too long', retryable: false },
  unsupported_media_type: { status: 415, title: 'The media type is not supported', retryable: false },
  unsupported_charset: { status: 415, title: 'The charset is not supported', retryable: false },
  unsupported_encoding: { status: 415, title: 'The content encoding is not supported', retryable: false },
  expectation_failed: { status: 417, title: 'The Expect header is not supported', retryable: false },
  precondition_required: { status: 428, title: 'The request needs a condition', retryable: false },
  rate_limited: { status: 429, title: 'The key exceeds its rate limit', retryable: true },
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
  invalid_time: { status: 422, title: 'A time is invalid or cannot be stored', retryable: false },
  unknown_field: { status: 422, title: 'A field is unknown', retryable: false },
  repeated_field: { status: 422, title: 'A field occurs twice', retryable: false },
  unstorable_string: { status: 422, title: 'PostgreSQL cannot store a string', retryable: false },
  unstorable_number: { status: 422, title: 'PostgreSQL cannot store a number', retryable: false },
  too_deep: { status: 422, title: 'The data is nested too deeply', retryable: false },
  refused_by_database: { status: 422, title: 'PostgreSQL rejected the record', retryable: false },

  // The service
  internal_error: { status: 500, title: 'Internal error', retryable: true },
  not_implemented: { status: 501, title: 'The method or transfer coding is not supported', retryable: false },
  overloaded: { status: 503, title: 'This instance is overloaded', retryable: true },
  draining: { status: 503, title: 'This instance is shutting down', retryable: true },
  database_unavailable: { status: 503, title: 'The database is unavailable', retryable: true },
  query_timeout: { status: 503, title: 'The query took too long', retryable: true },
  http_version_not_supported: { status: 505, title: 'The HTTP version is not supported', retryable: false },
  storage_full: { status: 507, title: 'The storage is full', retryable: true },
} as const satisfies Record<string, Entry>

/** Retry-After by status, in seconds. It takes a while until people or retention free space. */
const RETRY_AFTER: Record<number, string> = { 503: '1', 507: '30' }

export type ProblemCode = keyof typeof PROBLEMS

interface ProblemOptions {
  outcome?: Outcome
  errors?: Fault[]
  /** Further members of the problem document (RFC 9457, section 3.2). */
  extra?: Record<string, unknown>
  headers?: Record<string, string>
  cause?: unknown
}

/** An error for the client: thrown anywhere, rendered in one function as application/problem+json (RFC 9457). */
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
    // Without Retry-After, clients would have to guess when to retry (RFC 9110, section 10.2.3).
    const retryAfter = RETRY_AFTER[this.status]
    this.headers = { ...(retryAfter === undefined ? {} : { 'retry-after': retryAfter }), ...options.headers }
  }

  /** The members of the problem document. */
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
