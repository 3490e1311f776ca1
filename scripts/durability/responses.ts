import type { Counts } from '../../src/schemas/results.ts'
import { idOf } from './records.ts'
import type { Message } from './requests.ts'

/**
 * What a response says about one record. `stored`: created or duplicate, without saying which. `unknown`: the response says that
 * the outcome is unknown. `nothing`: there was no response.
 */
export type Claim = 'created' | 'duplicate' | 'stored' | 'conflict' | 'rejected' | 'not_written' | 'unknown' | 'nothing'

/** One attempt to store some records: a request and its response. */
export interface ClientResponse {
  request: number
  variant: number
  strict: boolean
  /** The records in the order of the body. For each one, what the response says, and its cursor if the response has one. */
  numbers: readonly number[]
  claims: readonly Claim[]
  cursors: readonly (string | undefined)[]
  /** When the request was sent and when the response was complete, in milliseconds of the same clock. */
  begun: number
  ended: number
  /** The HTTP status. Undefined if the connection broke, or if there was no response in time. */
  status?: number | undefined
  /** The counts of the response: created records, and created or duplicate records. */
  counts?: { created: number; stored: number } | undefined
  /** Where the response contradicts itself or the request. */
  contradictions: readonly string[]
  /** The connection was refused: nothing was sent. */
  unsent: boolean
  /** Why there is no response, or the code of the refusal. Only for messages. */
  reason?: string | undefined
}

interface Result {
  index: number
  status: Claim
  id?: string
  cursor?: string
}

/** All members that a response to POST /v1/records can have: see src/schemas. */
interface Body {
  counts?: Counts
  results?: Result[]
  lines?: number
  committedLines?: number
  rejections?: { line: number; code: string }[]
  code?: string
  outcome?: 'not_written' | 'unknown'
  errors?: { index?: number; code: string }[]
}

export type Reading = Pick<ClientResponse, 'claims' | 'cursors' | 'counts' | 'contradictions' | 'reason'>

/** Determines what an HTTP response says about each record of its request. */
export function readResponse(
  { plan, numbers }: Pick<Message, 'plan' | 'numbers'>,
  status: number,
  body: Body,
): Reading {
  const contradictions: string[] = []
  const expect = (holds: boolean, what: string) => void (holds || contradictions.push(what))
  const claims = numbers.map(() => undefined as Claim | undefined)
  const cursors = numbers.map(() => undefined as string | undefined)
  const { counts } = body
  if (body.committedLines === undefined) readResults()
  else readLines(body.lines ?? 0, body.committedLines)
  if (counts !== undefined) checkCounts(counts)
  return {
    claims: claims.map((one) => one ?? 'unknown'),
    cursors,
    counts: counts && { created: counts.created, stored: counts.created + counts.duplicate },
    contradictions,
    reason: body.code && `${body.code}, ${body.outcome}`,
  }

  function readResults(): void {
    for (const { index, status, id, cursor } of body.results ?? []) {
      ;[claims[index], cursors[index]] = [status, cursor]
      const wanted = idOf(numbers[index] as number)
      expect(id === wanted, `the result of ${wanted} has the id ${id}`)
    }
    for (const { index, code } of body.errors ?? []) {
      if (index !== undefined) claims[index] = code === 'conflict' ? 'conflict' : 'rejected'
    }
    if (status >= 300) {
      if ((status === 409 || status === 422) && body.outcome === 'not_written') {
        expect(
          claims.some((one) => one !== undefined),
          'refused without a reason',
        )
      }
      fill(0, numbers.length, body.outcome === 'not_written' ? 'not_written' : 'unknown')
      return
    }
    const listed = claims.filter((one) => one !== undefined).length
    expect(plan.minimal === true || listed === numbers.length, `${listed} results for ${numbers.length} records`)
    expect(!plan.minimal || !claims.some(isAcknowledged), 'results of stored records, which return=minimal omits')
    fill(0, numbers.length, acknowledgement())
    expect(
      plan.minimal === true || claims.every((one, at) => one === 'rejected' || cursors[at]),
      'a result without a cursor',
    )
  }

  function readLines(lines: number, committed: number): void {
    for (const { line, code } of body.rejections ?? []) claims[line - 1] = code === 'conflict' ? 'conflict' : 'rejected'
    expect(
      committed <= lines && lines <= numbers.length,
      `committedLines ${committed} of ${lines}, but ${numbers.length} lines were sent`,
    )
    if (status < 300)
      expect(committed === numbers.length, `status ${status}, but committedLines is ${committed} of ${numbers.length}`)
    const all = committed === numbers.length
    fill(0, committed, all ? acknowledgement() : 'stored')
    fill(committed, numbers.length, body.outcome === 'not_written' ? 'not_written' : 'unknown')
  }

  /** Sets the claim of the records that the response does not list. */
  function fill(from: number, to: number, what: Claim): void {
    for (let at = from; at < to; at++) claims[at] ??= what
  }

  function acknowledgement(): Claim {
    return counts?.duplicate === 0 ? 'created' : counts?.created === 0 ? 'duplicate' : 'stored'
  }

  function checkCounts({ created, duplicate, conflict, rejected }: Counts): void {
    const count = (...wanted: Claim[]) => claims.filter((one) => one !== undefined && wanted.includes(one)).length
    const stored = count('created', 'duplicate', 'stored')
    const text = `counts ${JSON.stringify(counts)}`
    // If a stream ended early, the counts include all stored lines, even those after committedLines.
    expect(
      status >= 300 ? created + duplicate >= stored : created + duplicate === stored,
      `${text}, but the rest of the response says that ${stored} are stored`,
    )
    expect(body.outcome !== 'not_written' || created + duplicate === 0, `${text}, but the outcome is not_written`)
    expect(
      conflict === count('conflict') && rejected === count('rejected'),
      `${text}, but the results list other records as not stored`,
    )
    if (body.results !== undefined && !plan.minimal)
      expect(created === count('created'), `${text}, but the results list other created records`)
  }
}

export const isAcknowledged = (claim: Claim | undefined): boolean =>
  claim === 'created' || claim === 'duplicate' || claim === 'stored'
