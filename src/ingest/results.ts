import type { RowOutcome } from '../data/record-store.ts'
import { encodeOffset } from '../lib/offset.ts'
import { isTurnOver, waitForTurn } from '../lib/turns.ts'
import type { Row } from '../postgres/row.ts'
import { type Fault, PROBLEMS, Problem, type ProblemCode } from '../problems.ts'
import type { Counts } from '../schemas/results.ts'
import { isFault } from './json-records.ts'

/** The result of one record, before it is serialized. */
export type Result =
  | { row: Row; status: 'created' | 'duplicate'; cursor: string }
  | { row: Row | undefined; status: 'conflict' | 'rejected'; error: Fault; cursor?: string }

/** Combines the records that a check rejected with the row outcomes of the others. Both are in the order of the body. */
export function joinResults(records: readonly (Row | Fault)[], outcomes: readonly RowOutcome[]): Result[] {
  let next = 0
  return records.map((record, index) => {
    if (isFault(record)) return { row: undefined, status: 'rejected', error: record }
    return toResult(record, index, outcomes[next++] as RowOutcome)
  })
}

function toResult(row: Row, index: number, outcome: RowOutcome): Result {
  if (outcome.status === 'rejected') return { row, status: 'rejected', error: { index, ...rowFault(outcome) } }
  const cursor = encodeOffset(outcome.position)
  if (outcome.status === 'conflict') return { row, status: 'conflict', error: { index, ...rowFault(outcome) }, cursor }
  return { row, status: outcome.status, cursor }
}

/** The fault of a row that conflicts or that PostgreSQL rejected. */
export function rowFault(outcome: RowOutcome): Fault {
  return outcome.status === 'rejected'
    ? {
        pointer: '',
        code: 'refused_by_database',
        detail: `PostgreSQL rejected the record (SQLSTATE ${outcome.sqlstate}). The log of PostgreSQL says why.`,
      }
    : {
        pointer: '/id',
        code: 'conflict',
        detail:
          'A record with this source and id, but different content, is already stored. It stays unchanged. To store both, use another id.',
      }
}

export const noCounts = (): Counts => ({ created: 0, duplicate: 0, conflict: 0, rejected: 0 })

export function countResults(results: readonly Result[]): Counts {
  const counts = noCounts()
  for (const { status } of results) counts[status]++
  return counts
}

export const statusOfFault = ({ code }: Fault): 'conflict' | 'rejected' =>
  code === 'conflict' ? 'conflict' : 'rejected'

/**
 * The status of a request, according to the results of its records. It is 207 if some failed, because the others are
 * committed, and `refused` if all failed.
 */
export function statusOf(counts: Counts): 200 | 201 | 207 | 'refused' {
  const failed = counts.conflict + counts.rejected
  const stored = counts.created + counts.duplicate
  if (failed > 0) return stored > 0 ? 207 : 'refused'
  return counts.created > 0 ? 201 : 200
}

/** Number of results that are written between two checks of the clock. */
const RESULTS_PER_CHECK = 100

/**
 * Writes the body of a response that is not an error (`ResultsSchema`), in turns (lib/turns.ts). The JSON is written by hand,
 * because it is most of what Sluice sends.
 * @param owner id of the API key that takes turns
 */
export async function writeResults(
  results: readonly Result[],
  counts: Counts,
  minimal: boolean,
  owner: string,
): Promise<string> {
  let list = ''
  for (const [index, result] of results.entries()) {
    if (index % RESULTS_PER_CHECK === RESULTS_PER_CHECK - 1 && isTurnOver()) await waitForTurn(owner)
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

/** The code for a batch whose faults all have this status. For any other status, and for several, it is `rejected`. */
const CODE_FOR_ALL: Partial<Record<number, ProblemCode>> = {
  403: 'source_forbidden',
  409: 'conflict',
  413: 'record_too_large',
}

/** The problem for a request of which no record was stored. For a single record, it is the record's own fault. */
export function refusal(faults: readonly Fault[], single: boolean): Problem {
  const [first] = faults as [Fault]
  if (single) return new Problem(first.code, first.detail, { errors: [first] })
  const code = codeForAll(new Set(faults.map(({ code }) => code)))
  return new Problem(code, `No record was stored. ${describe(first)} All reasons are in errors.`, {
    errors: [...faults],
  })
}

/** One code for several faults with these codes. */
export function codeForAll(codes: ReadonlySet<ProblemCode>): ProblemCode {
  const [status, ...others] = new Set([...codes].map((code) => PROBLEMS[code].status))
  const forAll = others.length === 0 ? CODE_FOR_ALL[status as number] : undefined
  if (forAll === undefined) return 'rejected'
  // Different codes may have the same status.
  return codes.size === 1 ? ([...codes][0] as ProblemCode) : forAll
}

/** The problem for a batch with `handling=strict` in which at least one record failed. */
export function strictRefusal(faults: readonly Fault[]): Problem {
  const code = faults.every((fault) => fault.code === 'conflict') ? 'conflict' : 'strict_refused'
  const detail = `No record was stored, because the request has handling=strict. ${describe(faults[0] as Fault)} All records at fault are in errors.`
  return new Problem(code, detail, { errors: [...faults] })
}

const describe = ({ index, detail }: Fault) => `Index ${index}: ${detail}`
