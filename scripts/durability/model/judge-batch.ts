import type { Answer } from './client.ts'
import type { Attempt, Told } from './history.ts'
import { type Complain, type Counts, codeForAll, type ProblemDocument, type Refusal, readProblem } from './problem.ts'
import type { Request } from './requests.ts'

interface Result {
  index: number
  source?: string
  id?: string
  status: string
  cursor?: string
  error?: Refusal
}

/** Reads the answer to a request that is no stream of lines: what each record is told, and whether the answer fits the request. */
export function judgeBatch(request: Request, answer: Answer, complain: Complain): void {
  if (answer.status < 300) return void judgeResults(request, answer, complain)
  const problem = readProblem(answer, complain)
  if (problem === undefined) return
  if (answer.status < 500) return void judgeRefusal(request, problem, complain)
  const told = toldBy(problem, complain)
  for (const attempt of request.exchange.attempts) attempt.told = told
}

/** What a failure of the service says about each record. */
export function toldBy({ outcome, code }: ProblemDocument, complain: Complain): Told {
  if (outcome === 'written') complain('What failed does not say written.', code)
  return outcome === 'not_written' ? 'not_written' : 'unknown'
}

function judgeResults({ plan, exchange }: Request, { status, headers, text }: Answer, complain: Complain): void {
  const wrong = (rule: string) => complain(rule, `${status} ${text.slice(0, 3000)}`)
  const { counts, results } = JSON.parse(text) as { counts: Counts; results: Result[] }
  const { attempts } = exchange
  const byIndex = new Map(results.map((result) => [result.index, result]))
  const inOrder = results.every(({ index }, at) => at === 0 || index > (results[at - 1] as Result).index)
  if (byIndex.size !== results.length || !inOrder) wrong('Results are in order, one for each record.')
  const seen: Counts = { created: 0, duplicate: 0, conflict: 0, rejected: 0 }

  for (const attempt of attempts) {
    const result = byIndex.get(attempt.index)
    byIndex.delete(attempt.index)
    if (result === undefined) {
      if (!plan.minimal || attempt.bad !== undefined) wrong('Each record has a result.')
      else attempt.told = 'stored'
      continue
    }
    seen[result.status as keyof Counts]++
    judgeResult(attempt, result, wrong)
    if (plan.minimal && result.error === undefined) wrong('return=minimal lists refusals only.')
  }
  if (byIndex.size > 0) wrong('No result is there without a record.')

  const left = attempts.filter(({ told }) => told === 'stored')
  if (plan.minimal) {
    spread(counts, left, (created) => {
      exchange.createdLines = created
    })
    seen.created = counts.created
    seen.duplicate = counts.duplicate
    if (counts.created + counts.duplicate !== left.length) wrong('The counts add up to the records.')
  }
  if (JSON.stringify(seen) !== JSON.stringify(counts)) wrong('The counts are those of the results.')
  const refused = counts.conflict + counts.rejected
  if (status !== (refused > 0 ? 207 : counts.created > 0 ? 201 : 200)) wrong('The status follows from the counts.')
  if (refused === attempts.length) wrong('A request none of whose records is stored is refused.')
  if (plan.strict && refused > 0) wrong('A strict request is stored as a whole, or not at all.')
  const applied = headers['preference-applied'] ?? ''
  if (plan.strict !== applied.includes('strict') || plan.minimal !== applied.includes('minimal'))
    wrong('Preference-Applied says which preferences were followed.')
  if ((plan.place === 'alone' && counts.created === 1) !== (headers.location !== undefined))
    wrong('A single record that was created has a Location.')
}

/** Where only the sum is told: all of them, none of them, or some that nobody names. */
export function spread(counts: Counts, stored: Attempt[], mixed: (created: number) => void): void {
  if (counts.created === 0) for (const attempt of stored) attempt.told = 'duplicate'
  else if (counts.created === stored.length) for (const attempt of stored) attempt.told = 'created'
  else mixed(counts.created)
}

function judgeResult(attempt: Attempt, result: Result, wrong: (rule: string) => void): void {
  const { bad } = attempt
  if (bad !== undefined) {
    attempt.told = 'refused'
    if (result.status !== 'rejected') return void wrong('A bad record is rejected.')
    return void judgeReason(bad, result.error, wrong)
  }
  if (result.source !== attempt.source || (attempt.id !== undefined && result.id !== attempt.id))
    wrong('A result names its record.')
  if (result.status !== 'created' && result.status !== 'duplicate' && result.status !== 'conflict')
    return void wrong('A good record is not rejected.')
  attempt.told = result.status
  attempt.cursor = result.cursor
  if (result.cursor === undefined) wrong('What is stored has a cursor.')
}

export function judgeReason(
  bad: { code: string; pointer: string },
  error: Refusal | undefined,
  wrong: (rule: string) => void,
) {
  if (error?.code !== bad.code || error.pointer !== bad.pointer) wrong(`The reason is ${bad.code} at "${bad.pointer}".`)
}

/** A refusal for the content: nothing of the request was stored. */
function judgeRefusal({ plan, exchange }: Request, problem: ProblemDocument, complain: Complain): void {
  const wrong = (rule: string) => complain(rule, JSON.stringify(problem).slice(0, 3000))
  const { attempts } = exchange
  const errors = new Map(problem.errors.map((error) => [error.index ?? 0, error]))
  for (const attempt of attempts) {
    const error = errors.get(attempt.index)
    attempt.told = error?.code === 'conflict' ? 'conflict' : 'refused'
    if (attempt.bad !== undefined && error !== undefined) judgeReason(attempt.bad, error, wrong)
    if (attempt.bad === undefined && error !== undefined && error.code !== 'conflict')
      wrong('A good record is not refused.')
  }
  if (problem.outcome !== 'not_written') wrong('What is refused for its content is not written.')
  if (errors.size === 0 || errors.size !== problem.errors.length)
    wrong('A refusal names the records at fault, each once.')

  const codes = problem.errors.map(({ code }) => code)
  if (plan.place === 'alone') {
    if (problem.code !== codes[0]) wrong('A single record is refused with its own code.')
  } else if (plan.strict) {
    if (problem.code !== (codes.every((code) => code === 'conflict') ? 'conflict' : 'strict_refused'))
      wrong('A strict batch is refused as strict_refused, or as conflict where it is nothing else.')
    // What the database refuses, it refuses only where nothing else was wrong.
    const found = attempts.filter(({ bad }) => bad !== undefined && bad.byDatabase !== true)
    const expected = found.length > 0 ? found : attempts.filter(({ bad }) => bad !== undefined)
    if (!expected.every(({ index }) => errors.has(index))) wrong('A strict refusal names all records at fault.')
  } else {
    if (errors.size !== attempts.length) wrong('A batch is refused only where all of its records are.')
    if (problem.code !== codeForAll(codes)) wrong('The code of a batch follows from those of its records.')
  }
}
