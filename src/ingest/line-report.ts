import type { RowOutcome } from '../data/record-store.ts'
import type { PackedRows } from '../postgres/packed-rows.ts'
import type { Row } from '../postgres/row.ts'
import { type Fault, Problem, type ProblemCode } from '../problems.ts'
import type { Counts } from '../schemas/results.ts'
import type { Sent, Totals } from './record-totals.ts'
import { codeForAll, noCounts, rowFault, statusOfFault } from './results.ts'

/** Maximum number of rejected lines that are listed. Further ones are only counted. */
export const MAX_REJECTIONS = 1000

/** Size in the response of a row that conflicts or that PostgreSQL rejects, without its source and id. */
export const CONFLICT_BYTES = 256

/** Maximum length of a pointer or a detail in a rejection, in characters: a name in a record can be as long as a line. */
const MAX_TEXT = 1024

/** Memory of a rejection without its texts: objects of V8. */
const REJECTION_BYTES = 128

const DEFECT = 'This is a bug in Sluice. The log has the reason under this requestId.'

interface Rejection extends Omit<Fault, 'index'> {
  /** From 1. */
  line: number
}

/** The results of the lines of a stream. */
export class LineReport {
  readonly counts = noCounts()
  /** Number of lines that were read, including blank lines. */
  lines = 0
  /** All lines up to this one have their final result: stored or rejected. */
  committedLines = 0
  /** Whether lines were sent to the database that may or may not be committed. */
  outcomeUnknown = false
  /** Memory of the listed lines, in bytes. It is also enough for the response, which lists at most the first MAX_REJECTIONS of them. */
  heldBytes = 0
  #rejections: Rejection[] = []
  /** Lines after this one are not listed. */
  #lastListed = Number.POSITIVE_INFINITY
  readonly #codes = new Set<ProblemCode>()
  readonly #totals: Totals

  /** @param totals those of all streams; the results are added to them, too */
  constructor(totals: Totals) {
    this.#totals = totals
  }

  /** Adds the outcomes of the rows of a chunk. `lines` has the line number of each row. */
  record(rows: PackedRows, lines: readonly number[], outcomes: readonly RowOutcome[]): void {
    for (const [at, outcome] of outcomes.entries()) {
      if (outcome.status === 'created') this.#count('created')
      else if (outcome.status === 'duplicate') this.#count('duplicate', () => rows.namesAt(at))
      else this.reject(lines[at] as number, rowFault(outcome), ...rows.slice(at, at + 1))
    }
  }

  reject(line: number, fault: Fault, row?: Row): void {
    this.#count(statusOfFault(fault), () => row ?? fault)
    this.#codes.add(fault.code)
    // Do not even create the rejection, because every line of a stream may be rejected.
    if (line > this.#lastListed) return
    const rejection = toRejection(line, fault, row)
    this.#rejections.push(rejection)
    this.heldBytes += bytesOf(rejection)
    // Keep twice as many: the database may reject a line after later lines were rejected by a check.
    if (this.#rejections.length < 2 * MAX_REJECTIONS) return
    this.#rejections = this.#first()
    this.heldBytes = this.#rejections.reduce((sum, one) => sum + bytesOf(one), 0)
    this.#lastListed = (this.#rejections.at(-1) as Rejection).line
  }

  /** The problem for a stream of which no line was stored. */
  refusal(): Problem {
    const [first] = this.#first()
    const detail = `No line was stored. Line ${first?.line}: ${first?.detail} All reasons are in rejections.`
    return new Problem(codeForAll(this.#codes), detail)
  }

  /** Turns the error that ended the stream into a problem with this report: lines that were stored before stay stored. */
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

  #count(outcome: keyof Counts, sent?: () => Sent): void {
    this.counts[outcome]++
    this.#totals.add(outcome, sent)
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
    detail: detail.length > MAX_TEXT ? `${detail.slice(0, MAX_TEXT)}…` : detail,
    ...rest,
  }
  // A copy: V8 does not copy a slice of a string, so a detail that quotes a number would keep its whole line in memory.
  return JSON.parse(JSON.stringify(rejection))
}

/** V8 takes one byte or two for a character, UTF-8 one to three. */
const bytesOf = (rejection: Rejection) => REJECTION_BYTES + 2 * Buffer.byteLength(JSON.stringify(rejection))

/** If a pointer is too long, points to the nearest parent whose pointer is short enough. */
function shortenPointer(pointer: string): string {
  return pointer.length > MAX_TEXT ? pointer.slice(0, pointer.lastIndexOf('/', MAX_TEXT)) : pointer
}
