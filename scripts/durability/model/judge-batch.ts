import type { Counts } from '../../../src/schemas/results.ts'
import type { HttpResponse } from './client.ts'
import type { Attempt, Claim } from './history.ts'
import { type Complain, codeForAll, type ProblemDocument, type Refusal, readProblem } from './problem.ts'
import type { Request } from './requests.ts'

interface Result {
  index: number
  source?: string
  id?: string
  status: string
  cursor?: string
  error?: Refusal
}

/** Reads the response to a request that is not a line stream: the result of each record, and whether the response fits the request. */
export function judgeBatch(request: Request, response: HttpResponse, complain: Complain): void {
  if (response.status < 300) return void judgeResults(request, response, complain)
  const problem = readProblem(response, complain)
  if (problem === undefined) return
  if (response.status < 500) return void judgeRefusal(request, problem, complain)
  const claim = claimOf(problem, complain)
  for (const attempt of request.exchange.attempts) attempt.claim = claim
}

/** What a 5xx says about each record. */
export function claimOf({ outcome, code }: ProblemDocument, complain: Complain): Claim {
  if (outcome !== 'not_written' && outcome !== 'unknown') complain('A failed request must have an outcome.', code)
  return outcome === 'not_written' ? 'not_written' : 'unknown'
}

function judgeResults({ plan, exchange }: Request, { status, headers, text }: HttpResponse, complain: Complain): void {
  const wrong = (rule: string) => complain(rule, `${status} ${text.slice(0, 3000)}`)
  const { counts, results } = JSON.parse(text) as { counts: Counts; results: Result[] }
  const { attempts } = exchange
  const byIndex = new Map(results.map((result) => [result.index, result]))
  const inOrder = results.every(({ index }, at) => at === 0 || index > (results[at - 1] as Result).index)
  if (byIndex.size !== results.length || !inOrder) wrong('The results must be in order, with one for each record.')
  const seen: Counts = { created: 0, duplicate: 0, conflict: 0, rejected: 0 }

  for (const attempt of attempts) {
    const result = byIndex.get(attempt.index)
    byIndex.delete(attempt.index)
    if (result === undefined) {
      if (!plan.minimal || attempt.bad !== undefined) wrong('Each record must have a result.')
      else attempt.claim = 'stored'
      continue
    }
    seen[result.status as keyof Counts]++
    judgeResult(attempt, result, wrong)
    if (plan.minimal && result.error === undefined)
      wrong('With return=minimal, only records that are not stored may have a result.')
  }
  if (byIndex.size > 0) wrong('Each result must belong to a record.')

  const left = attempts.filter(({ claim }) => claim === 'stored')
  if (plan.minimal) {
    spread(counts, left, (created) => {
      exchange.createdLines = created
    })
    seen.created = counts.created
    seen.duplicate = counts.duplicate
    if (counts.created + counts.duplicate !== left.length) wrong('The counts must add up to the number of records.')
  }
  if (JSON.stringify(seen) !== JSON.stringify(counts)) wrong('The counts must match the results.')
  const refused = counts.conflict + counts.rejected
  if (status !== (refused > 0 ? 207 : counts.created > 0 ? 201 : 200)) wrong('The status must match the counts.')
  if (refused === attempts.length) wrong('A request must be refused if none of its records is stored.')
  if (plan.strict && refused > 0) wrong('A strict request must be stored completely or not at all.')
  const applied = headers['preference-applied'] ?? ''
  if (plan.strict !== applied.includes('strict') || plan.minimal !== applied.includes('minimal'))
    wrong('Preference-Applied must list the preferences that were applied.')
  if ((plan.shape === 'alone' && counts.created === 1) !== (headers.location !== undefined))
    wrong('The response must have a Location if and only if it created a single record.')
}

/** For a response with counts only: all records were created, none was, or some were and the response does not say which. */
export function spread(counts: Counts, stored: Attempt[], mixed: (created: number) => void): void {
  if (counts.created === 0) for (const attempt of stored) attempt.claim = 'duplicate'
  else if (counts.created === stored.length) for (const attempt of stored) attempt.claim = 'created'
  else mixed(counts.created)
}

function judgeResult(attempt: Attempt, result: Result, wrong: (rule: string) => void): void {
  const { bad } = attempt
  if (bad !== undefined) {
    attempt.claim = 'refused'
    if (result.status !== 'rejected') return void wrong('A bad record must be rejected.')
    return void judgeReason(bad, result.error, wrong)
  }
  if (result.source !== attempt.source || (attempt.id !== undefined && result.id !== attempt.id))
    wrong('A result must have the source and id of its record.')
  if (result.status !== 'created' && result.status !== 'duplicate' && result.status !== 'conflict')
    return void wrong('A good record must not be rejected.')
  attempt.claim = result.status
  attempt.cursor = result.cursor
  if (result.cursor === undefined) wrong('The result of a stored record must have a cursor.')
}

export function judgeReason(
  bad: { code: string; pointer: string },
  error: Refusal | undefined,
  wrong: (rule: string) => void,
) {
  if (error?.code !== bad.code || error.pointer !== bad.pointer)
    wrong(`The reason must be ${bad.code} at "${bad.pointer}".`)
}

/** A request that is refused for its content: none of its records was stored. */
function judgeRefusal({ plan, exchange }: Request, problem: ProblemDocument, complain: Complain): void {
  const wrong = (rule: string) => complain(rule, JSON.stringify(problem).slice(0, 3000))
  const { attempts } = exchange
  const errors = new Map(problem.errors.map((error) => [error.index ?? 0, error]))
  for (const attempt of attempts) {
    const error = errors.get(attempt.index)
    attempt.claim = error?.code === 'conflict' ? 'conflict' : 'refused'
    if (attempt.bad !== undefined && error !== undefined) judgeReason(attempt.bad, error, wrong)
    if (attempt.bad === undefined && error !== undefined && error.code !== 'conflict')
      wrong('A good record must not be rejected.')
  }
  if (problem.outcome !== 'not_written')
    wrong('A request that is refused for its content must have the outcome not_written.')
  if (errors.size === 0 || errors.size !== problem.errors.length)
    wrong('A refusal must list each record at fault once.')

  const codes = problem.errors.map(({ code }) => code)
  if (plan.shape === 'alone') {
    if (problem.code !== codes[0]) wrong('The refusal of a single record must have the code of that record.')
  } else if (plan.strict) {
    if (problem.code !== (codes.every((code) => code === 'conflict') ? 'conflict' : 'strict_refused'))
      wrong('A strict batch must be refused with conflict if it has only conflicts, and else with strict_refused.')
    // Records that only the database rejects are found only if all others are valid.
    const found = attempts.filter(({ bad }) => bad !== undefined && bad.byDatabase !== true)
    const expected = found.length > 0 ? found : attempts.filter(({ bad }) => bad !== undefined)
    if (!expected.every(({ index }) => errors.has(index)))
      wrong('The refusal of a strict batch must list all records at fault.')
  } else {
    if (errors.size !== attempts.length) wrong('A batch must be refused only if none of its records can be stored.')
    if (problem.code !== codeForAll(codes)) wrong('The code of a batch must follow from the codes of its records.')
  }
}
