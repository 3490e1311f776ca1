import type { RowOutcome } from '../data/record-store.ts'
import type { Row } from '../data/row.ts'
import { encodeCursor } from '../lib/cursor.ts'
import { type Fault, PROBLEMS, Problem, type ProblemCode } from '../lib/problems.ts'
import { isTurnOver, waitForTurn } from '../lib/turns.ts'
import { isFault } from './json-records.ts'

/** One record's answer, before it is written out. */
export type Result =
  | { row: Row; status: 'created' | 'duplicate'; cursor: string }
  | { row: Row | undefined; status: 'conflict' | 'rejected'; error: Fault; cursor?: string }

export type Counts = Record<Result['status'], number>

/** Joins what was refused on the way in with what the database said of the rest; both in the order of the body. */
export function joinResults(records: readonly (Row | Fault)[], outcomes: readonly RowOutcome[]): Result[] {
  let next = 0
  return records.map((record, index) => {
    if (isFault(record)) return { row: undefined, status: 'rejected', error: record }
    return toResult(record, index, outcomes[next++] as RowOutcome)
  })
}

function toResult(row: Row, index: number, outcome: RowOutcome): Result {
  if (outcome.status === 'refused') return { row, status: 'rejected', error: { index, ...faultOf(outcome) } }
  const cursor = encodeCursor(outcome.position)
  if (outcome.status === 'conflict') return { row, status: 'conflict', error: { index, ...faultOf(outcome) }, cursor }
  return { row, status: outcome.status, cursor }
}

/** Why the database did not take a row. */
export function faultOf(outcome: RowOutcome): Fault {
  return outcome.status === 'refused'
    ? {
        pointer: '',
        code: 'refused_by_database',
        detail: `PostgreSQL refused the record (SQLSTATE ${outcome.sqlstate}).`,
      }
    : {
        pointer: '/id',
        code: 'conflict',
        detail: 'Another record with this source and id is stored, with other content. The stored one stands.',
      }
}

export const noCounts = (): Counts => ({ created: 0, duplicate: 0, conflict: 0, rejected: 0 })

export function countResults(results: readonly Result[]): Counts {
  const counts = noCounts()
  for (const { status } of results) counts[status]++
  return counts
}

export function countFaults(faults: readonly Fault[]): Counts {
  const counts = noCounts()
  for (const { code } of faults) counts[code === 'conflict' ? 'conflict' : 'rejected']++
  return counts
}

export function addCounts(to: Counts, { created, duplicate, conflict, rejected }: Counts): void {
  to.created += created
  to.duplicate += duplicate
  to.conflict += conflict
  to.rejected += rejected
}

/**
 * The status of a request whose records went different ways. All refused is an error; some refused is 207, since the
 * rest is committed.
 */
export function statusOf(counts: Counts): 200 | 201 | 207 | 'refused' {
  const refused = counts.conflict + counts.rejected
  const stored = counts.created + counts.duplicate
  if (refused > 0) return stored > 0 ? 207 : 'refused'
  return counts.created > 0 ? 201 : 200
}

/** Results that are written between two looks at the clock. */
const RESULTS_PER_LOOK = 100

/**
 * The body of an answer that is not an error: `ResultsSchema`, written by hand since it is most of what we send. In turns of
 * the event loop.
 * @param owner of the turns
 */
export async function writeResults(
  results: readonly Result[],
  counts: Counts,
  minimal: boolean,
  owner: string,
): Promise<string> {
  let list = ''
  for (const [index, result] of results.entries()) {
    if (index % RESULTS_PER_LOOK === RESULTS_PER_LOOK - 1 && isTurnOver()) await waitForTurn(owner)
    const error = 'error' in result ? result.error : undefined
    if (minimal && error === undefined) continue
    if (list !== '') list += ','
    list += `{"index":${index}`
    const { source, id } = result.row ?? error ?? {}
    if (source !== undefined) list += `,"source":${JSON.stringify(source)}`
    if (id !== undefined) list += `,"id":${JSON.stringify(id)}`
    list += `,"status":"${result.status}"`
    if (result.cursor !== undefined) list += `,"cursor":"${result.cursor}"`
    if (error !== undefined) {
      const { pointer, code, detail } = error
      list += `,"error":${JSON.stringify({ pointer, code, detail })}`
    }
    list += '}'
  }
  return `{"counts":${writeCounts(counts)},"results":[${list}]}`
}

export const writeCounts = ({ created, duplicate, conflict, rejected }: Counts): string =>
  `{"created":${created},"duplicate":${duplicate},"conflict":${conflict},"rejected":${rejected}}`

/** The code for a batch that was refused as a whole, where all its records have this status; else `rejected`. */
const CODE_FOR_ALL: Partial<Record<number, ProblemCode>> = {
  403: 'source_forbidden',
  409: 'conflict',
  413: 'record_too_large',
}

/** The refusal of a request none of whose records was stored: a batch of one is answered like a record. */
export function refusal(faults: readonly Fault[], single: boolean): Problem {
  const [first] = faults as [Fault]
  if (single) return new Problem(first.code, first.detail, { errors: [first] })
  const code = codeForAll(new Set(faults.map(({ code }) => code)))
  return new Problem(code, 'None of the records was stored: errors has the reason for each.', { errors: [...faults] })
}

/** The code for all, where the faults of the records have these. */
export function codeForAll(codes: ReadonlySet<ProblemCode>): ProblemCode {
  const [status, ...others] = new Set([...codes].map((code) => PROBLEMS[code].status))
  const forAll = others.length === 0 ? CODE_FOR_ALL[status as number] : undefined
  if (forAll === undefined) return 'rejected'
  // Several codes have a status in common.
  return codes.size === 1 ? ([...codes][0] as ProblemCode) : forAll
}

/** The refusal of a batch with `handling=strict`, some of whose records would have been stored. */
export function strictRefusal(faults: readonly Fault[]): Problem {
  const code = faults.every((fault) => fault.code === 'conflict') ? 'conflict' : 'strict_refused'
  return new Problem(
    code,
    'Nothing was stored, since handling=strict was asked for: errors has the records at fault.',
    { errors: [...faults] },
  )
}
