import type { RowOutcome } from '../data/record-store.ts'
import type { Row, Rows } from '../data/row.ts'
import { type Fault, Problem, type ProblemCode } from '../lib/problems.ts'
import { type Counts, codeForAll, faultOf, noCounts } from './results.ts'

/** Refused lines that are told one by one; the rest is counted. */
export const MAX_REJECTIONS = 1000

/** What the answer says of a row that PostgreSQL refuses, beyond its source and id. */
export const CONFLICT_BYTES = 256

/** What is told of one, in characters: a name in a record can be as long as a line. */
const LONGEST_TEXT = 1024

/** What one holds beyond its texts: objects of V8. */
const REJECTION_BYTES = 128

const DEFECT = 'This is a defect of the service. The log has the reason, under this requestId.'

export interface Rejection extends Omit<Fault, 'index'> {
  /** From 1. */
  line: number
}

/** What became of the lines of a stream. */
export class LineReport {
  readonly counts = noCounts()
  /** Lines that were read, blank ones too. */
  lines = 0
  /** All lines up to this one are dealt with: stored or refused. */
  committedLines = 0
  /** Lines were sent to the database, and whether they were committed is not known. */
  outcomeUnknown = false
  /** In memory, of the refused lines that are listed; also enough for the answer, which says the same of half of them. */
  heldBytes = 0
  #rejections: Rejection[] = []
  /** Of the lines that are listed the last one, once no further ones will be. */
  #lastListed = Number.POSITIVE_INFINITY
  readonly #codes = new Set<ProblemCode>()
  readonly #totals: Counts

  /** @param totals counts on over all streams */
  constructor(totals: Counts) {
    this.#totals = totals
  }

  /** What the database said of the rows of a chunk; `lines` are theirs. */
  record(rows: Rows, lines: readonly number[], outcomes: readonly RowOutcome[]): void {
    for (const [at, outcome] of outcomes.entries()) {
      if (outcome.status === 'created' || outcome.status === 'duplicate') this.#count(outcome.status)
      else this.refuse(lines[at] as number, faultOf(outcome), ...rows.slice(at, at + 1))
    }
  }

  refuse(line: number, fault: Fault, row?: Row): void {
    this.#count(fault.code === 'conflict' ? 'conflict' : 'rejected')
    this.#codes.add(fault.code)
    // Not even made: a stream may be nothing else but lines that are refused.
    if (line > this.#lastListed) return
    const rejection = toRejection(line, fault, row)
    this.#rejections.push(rejection)
    this.heldBytes += bytesOf(rejection)
    // What the database refuses is known later than what is wrong with a line further down.
    if (this.#rejections.length < 2 * MAX_REJECTIONS) return
    this.#rejections = this.#first()
    this.heldBytes = this.#rejections.reduce((sum, one) => sum + bytesOf(one), 0)
    this.#lastListed = (this.#rejections.at(-1) as Rejection).line
  }

  /** Why no line was stored. */
  refusal(): Problem {
    return new Problem(codeForAll(this.#codes), 'None of the lines was stored: rejections has the reasons.')
  }

  /** What ended the stream, as a problem with this report in it: what was stored before that stays stored. */
  explain(error: unknown): Problem {
    const problem = error instanceof Problem ? error : new Problem('internal_error', DEFECT, { cause: error })
    const stored = this.counts.created + this.counts.duplicate > 0
    return new Problem(problem.code, problem.message, {
      outcome: stored || this.outcomeUnknown ? 'unknown' : problem.outcome,
      headers: problem.headers,
      cause: problem.cause,
      extra: this.toJSON(),
    })
  }

  toJSON(): Record<string, unknown> {
    const rejections = this.#first()
    return {
      counts: this.counts,
      lines: this.lines,
      committedLines: this.committedLines,
      rejections,
      rejectionsOmitted: this.counts.conflict + this.counts.rejected - rejections.length,
    }
  }

  #count(outcome: keyof Counts): void {
    this.counts[outcome]++
    this.#totals[outcome]++
  }

  #first(): Rejection[] {
    return this.#rejections.toSorted((one, other) => one.line - other.line).slice(0, MAX_REJECTIONS)
  }
}

function toRejection(line: number, { index: _, pointer, detail, ...rest }: Fault, row: Row | undefined): Rejection {
  const rejection = {
    line,
    ...(row === undefined ? {} : { source: row.source, id: row.id }),
    ...(pointer === undefined ? {} : { pointer: shortenPointer(pointer) }),
    detail: detail.length > LONGEST_TEXT ? `${detail.slice(0, LONGEST_TEXT)}…` : detail,
    ...rest,
  }
  // A copy: V8 cuts text out of a text without copying, and so a detail with a number in it would keep its line in memory.
  return JSON.parse(JSON.stringify(rejection))
}

/** V8 takes one byte or two for a character, UTF-8 one to three. */
const bytesOf = (rejection: Rejection) => REJECTION_BYTES + 2 * Buffer.byteLength(JSON.stringify(rejection))

/** To what is around the place, where the place itself is too long to be told. */
function shortenPointer(pointer: string): string {
  return pointer.length > LONGEST_TEXT ? pointer.slice(0, pointer.lastIndexOf('/', LONGEST_TEXT)) : pointer
}
