import { idOf } from './records.ts'
import type { Message } from './requests.ts'

/**
 * What an answer tells of one record. `stored`: created or duplicate, and it does not say which; `unknown`: it says that it
 * does not know; `nothing`: there was no answer.
 */
export type Told = 'created' | 'duplicate' | 'stored' | 'conflict' | 'rejected' | 'not_written' | 'unknown' | 'nothing'

/** One try to store some records: a request, and what came of it. */
export interface Answer {
  request: number
  variant: number
  strict: boolean
  /** The records, in the order of the body, and what was told of each; with its cursor, where that was told. */
  numbers: readonly number[]
  told: readonly Told[]
  cursors: readonly (string | undefined)[]
  /** When it was sent and when that was over, in milliseconds of one clock. */
  begun: number
  ended: number
  /** Of HTTP; undefined: the connection broke, or nothing came in time. */
  status?: number | undefined
  /** How many were created, and how many were created or duplicates, where it is told. */
  counts?: { created: number; stored: number } | undefined
  /** Where the answer contradicts itself, or the request. */
  contradictions: readonly string[]
  /** No connection was made: nothing was sent. */
  unsent: boolean
  /** Why there is no answer, or what the refusal says; for people. */
  reason?: string | undefined
}

interface Counts {
  created: number
  duplicate: number
  conflict: number
  rejected: number
}

interface Result {
  index: number
  status: Told
  id?: string
  cursor?: string
}

/** The members of all bodies that POST /v1/records answers with: see src/schemas. */
interface Body {
  counts?: Counts
  results?: Result[]
  lines?: number
  committedLines?: number
  rejections?: { line: number; code: string }[]
  code?: string
  outcome?: 'not_written' | 'unknown' | 'written'
  errors?: { index?: number; code: string }[]
}

export type Reading = Pick<Answer, 'told' | 'cursors' | 'counts' | 'contradictions' | 'reason'>

/** What an answer of HTTP says of each record of its request. */
export function readAnswer({ plan, numbers }: Pick<Message, 'plan' | 'numbers'>, status: number, body: Body): Reading {
  const contradictions: string[] = []
  const claim = (holds: boolean, what: string) => void (holds || contradictions.push(what))
  const told = numbers.map(() => undefined as Told | undefined)
  const cursors = numbers.map(() => undefined as string | undefined)
  const { counts } = body
  if (body.committedLines === undefined) readResults()
  else readLines(body.lines ?? 0, body.committedLines)
  if (counts !== undefined) checkCounts(counts)
  return {
    told: told.map((one) => one ?? 'unknown'),
    cursors,
    counts: counts && { created: counts.created, stored: counts.created + counts.duplicate },
    contradictions,
    reason: body.code && `${body.code}, ${body.outcome}`,
  }

  function readResults(): void {
    for (const { index, status, id, cursor } of body.results ?? []) {
      ;[told[index], cursors[index]] = [status, cursor]
      const wanted = idOf(numbers[index] as number)
      claim(id === wanted, `the result of ${wanted} has the id ${id}`)
    }
    for (const { index, code } of body.errors ?? []) {
      if (index !== undefined) told[index] = code === 'conflict' ? 'conflict' : 'rejected'
    }
    if (status >= 300) {
      if ((status === 409 || status === 422) && body.outcome === 'not_written') {
        claim(
          told.some((one) => one !== undefined),
          'refused without a reason',
        )
      }
      fill(0, numbers.length, body.outcome === 'not_written' ? 'not_written' : 'unknown')
      return
    }
    const listed = told.filter((one) => one !== undefined).length
    claim(plan.minimal === true || listed === numbers.length, `${listed} results for ${numbers.length} records`)
    claim(!plan.minimal || !told.some(isAcknowledged), 'results of what went well, which minimal leaves out')
    fill(0, numbers.length, acknowledgement())
    claim(
      plan.minimal === true || told.every((one, at) => one === 'rejected' || cursors[at]),
      'a result without a cursor',
    )
  }

  function readLines(lines: number, committed: number): void {
    for (const { line, code } of body.rejections ?? []) told[line - 1] = code === 'conflict' ? 'conflict' : 'rejected'
    claim(
      committed <= lines && lines <= numbers.length,
      `${committed} of ${lines} lines, and ${numbers.length} were sent`,
    )
    if (status < 300) claim(committed === numbers.length, `${status}, and ${committed} of ${numbers.length} lines`)
    const all = committed === numbers.length
    fill(0, committed, all ? acknowledgement() : 'stored')
    fill(committed, numbers.length, body.outcome === 'not_written' ? 'not_written' : 'unknown')
  }

  /** Those of which nothing is told one by one. */
  function fill(from: number, to: number, what: Told): void {
    for (let at = from; at < to; at++) told[at] ??= what
  }

  function acknowledgement(): Told {
    return counts?.duplicate === 0 ? 'created' : counts?.created === 0 ? 'duplicate' : 'stored'
  }

  function checkCounts({ created, duplicate, conflict, rejected }: Counts): void {
    const count = (...wanted: Told[]) => told.filter((one) => one !== undefined && wanted.includes(one)).length
    const stored = count('created', 'duplicate', 'stored')
    const text = `counts ${JSON.stringify(counts)}`
    // Of lines further down it is not told which are stored already.
    claim(
      status >= 300 ? created + duplicate >= stored : created + duplicate === stored,
      `${text}, and ${stored} stored`,
    )
    claim(conflict === count('conflict') && rejected === count('rejected'), `${text}, and others are refused`)
    if (body.results !== undefined && !plan.minimal)
      claim(created === count('created'), `${text}, and others are created`)
  }
}

export const isAcknowledged = (told: Told | undefined): boolean =>
  told === 'created' || told === 'duplicate' || told === 'stored'
