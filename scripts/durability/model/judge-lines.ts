import type { HttpResponse } from './client.ts'
import type { Attempt } from './history.ts'
import { claimOf, judgeReason, spread } from './judge-batch.ts'
import { type Complain, codeForAll, type LinesReport, type Refusal, readProblem } from './problem.ts'
import type { Request } from './requests.ts'

/** Reads the response to a line stream: the result of each line, and whether the response fits the request. */
export function judgeLines({ exchange }: Request, response: HttpResponse, complain: Complain): void {
  const wrong = (rule: string) => complain(rule, `${response.status} ${response.text.slice(0, 3000)}`)
  const { attempts } = exchange
  if (response.status < 300) {
    const report = JSON.parse(response.text) as LinesReport
    const { created, duplicate, conflict, rejected } = report.counts
    const refused = conflict + rejected
    if (response.status !== (refused > 0 ? 207 : created > 0 ? 201 : 200)) wrong('The status must match the counts.')
    if (created + duplicate === 0) wrong('A stream must be refused if none of its lines is stored.')
    return void judgeWhole(attempts, report, exchange, wrong)
  }

  const problem = readProblem(response, complain)
  if (problem === undefined) return
  const { report } = problem
  if (response.status < 500) {
    if (report === undefined) return void wrong('The refusal of a stream must contain the report.')
    if (problem.code !== codeForAll(report.rejections.map(({ code }) => code)))
      wrong('The code of a stream must follow from the codes of its lines.')
    if (report.counts.created + report.counts.duplicate > 0)
      wrong('A stream must be refused only if none of its lines can be stored.')
    if (problem.outcome !== 'not_written')
      wrong('A request that is refused for its content must have the outcome not_written.')
    return void judgeWhole(attempts, report, exchange, wrong)
  }
  const claim = claimOf(problem, complain)
  for (const attempt of attempts) attempt.claim = claim
  if (report !== undefined) judgePart(exchange, report, problem.outcome, wrong)
}

/** Checks a report in which every line has its final result. */
function judgeWhole(
  attempts: Attempt[],
  report: LinesReport,
  exchange: Request['exchange'],
  wrong: (rule: string) => void,
): void {
  const { counts, lines, committedLines, rejections, rejectionsOmitted } = report
  if (lines !== attempts.length || committedLines !== attempts.length)
    wrong('Every line must have been read and have its final result.')
  if (rejectionsOmitted !== 0) wrong('The first 1,000 rejections must not be omitted.')
  const refusals = judgeRejections(attempts, rejections, wrong)
  for (const attempt of attempts) {
    const refusal = refusals.get(attempt.index + 1)
    if (attempt.bad !== undefined && refusal === undefined)
      wrong(`Line ${attempt.index + 1} is bad and must be rejected.`)
    if (refusal === undefined && attempt.bad === undefined) attempt.claim = 'stored'
  }
  const conflicts = rejections.filter(({ code }) => code === 'conflict').length
  if (counts.conflict !== conflicts || counts.rejected !== rejections.length - conflicts)
    wrong('The counts of conflicts and rejected lines must match the rejections.')
  const stored = attempts.filter(({ claim }) => claim === 'stored')
  if (counts.created + counts.duplicate !== stored.length) wrong('The counts must add up to the number of lines.')
  spread(counts, stored, (created) => {
    exchange.createdLines = created
  })
}

/** Checks the report of a stream that failed after some lines. */
function judgePart(
  exchange: Request['exchange'],
  report: LinesReport,
  outcome: string,
  wrong: (rule: string) => void,
): void {
  const { attempts } = exchange
  const { counts, lines, committedLines, rejections } = report
  const acknowledged = counts.created + counts.duplicate
  if (committedLines > lines || lines > attempts.length)
    wrong('committedLines must not exceed the lines read, nor those the lines sent.')
  if (outcome === 'not_written' && acknowledged > 0)
    wrong('A response with the outcome not_written must not count a stored line.')
  const refusals = judgeRejections(attempts, rejections, wrong)
  let stored = 0
  for (const attempt of attempts.slice(0, committedLines)) {
    const refusal = refusals.get(attempt.index + 1)
    if (attempt.bad !== undefined && refusal === undefined)
      wrong(`Line ${attempt.index + 1} is bad and must be rejected.`)
    if (attempt.bad !== undefined || refusal !== undefined) continue
    attempt.claim = 'stored'
    stored++
  }
  // Lines after committedLines may be stored as well. The counts include them without saying which; judgeCounts() checks them.
  if (acknowledged < stored) wrong('The counts must include all lines up to committedLines.')
  if (acknowledged + counts.conflict + counts.rejected > lines)
    wrong('The counts must not exceed the number of lines read.')
  exchange.createdLines = counts.created
  exchange.storedLines = acknowledged
}

/** Checks that each rejection has a line of its own and the right reason. @returns the rejections by line */
function judgeRejections(
  attempts: Attempt[],
  rejections: Refusal[],
  wrong: (rule: string) => void,
): Map<number, Refusal> {
  const byLine = new Map(rejections.map((rejection) => [rejection.line as number, rejection]))
  if (byLine.size !== rejections.length) wrong('A line must not be rejected twice.')
  for (const [line, rejection] of byLine) {
    const attempt = attempts[line - 1]
    if (attempt === undefined) wrong('Each rejection must belong to a line.')
    else if (attempt.bad !== undefined) judgeReason(attempt.bad, rejection, wrong)
    else if (rejection.code !== 'conflict') wrong('A good line must not be rejected.')
    if (attempt !== undefined) attempt.claim = rejection.code === 'conflict' ? 'conflict' : 'refused'
  }
  return byLine
}
