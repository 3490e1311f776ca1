import type { Answer } from './client.ts'
import type { Attempt } from './history.ts'
import { judgeReason, spread, toldBy } from './judge-batch.ts'
import { type Complain, codeForAll, type LinesReport, type Refusal, readProblem } from './problem.ts'
import type { Request } from './requests.ts'

/** Reads the answer to a stream of lines, each of which is a record of the request. */
export function judgeLines({ exchange }: Request, answer: Answer, complain: Complain): void {
  const wrong = (rule: string) => complain(rule, `${answer.status} ${answer.text.slice(0, 3000)}`)
  const { attempts } = exchange
  if (answer.status < 300) {
    const report = JSON.parse(answer.text) as LinesReport
    const { created, duplicate, conflict, rejected } = report.counts
    const refused = conflict + rejected
    if (answer.status !== (refused > 0 ? 207 : created > 0 ? 201 : 200)) wrong('The status follows from the counts.')
    if (created + duplicate === 0) wrong('A request none of whose lines is stored is refused.')
    return void judgeWhole(attempts, report, exchange, wrong)
  }

  const problem = readProblem(answer, complain)
  if (problem === undefined) return
  const { report } = problem
  if (answer.status < 500) {
    if (report === undefined) return void wrong('A refusal of lines carries the report.')
    if (problem.code !== codeForAll(report.rejections.map(({ code }) => code)))
      wrong('The code of a stream follows from those of its lines.')
    if (report.counts.created + report.counts.duplicate > 0)
      wrong('A stream is refused only where all of its lines are.')
    if (problem.outcome !== 'not_written') wrong('What is refused for its content is not written.')
    return void judgeWhole(attempts, report, exchange, wrong)
  }
  const told = toldBy(problem, complain)
  for (const attempt of attempts) attempt.told = told
  if (report !== undefined) judgePart(exchange, report, problem.outcome, wrong)
}

/** All lines were read and dealt with. */
function judgeWhole(
  attempts: Attempt[],
  report: LinesReport,
  exchange: Request['exchange'],
  wrong: (rule: string) => void,
): void {
  const { counts, lines, committedLines, rejections, rejectionsOmitted } = report
  if (lines !== attempts.length || committedLines !== attempts.length) wrong('All lines were read and dealt with.')
  if (rejectionsOmitted !== 0) wrong('No rejection of the first 1,000 is left out.')
  const refusals = judgeRejections(attempts, rejections, wrong)
  for (const attempt of attempts) {
    const refusal = refusals.get(attempt.index + 1)
    if (attempt.bad !== undefined && refusal === undefined) wrong(`Line ${attempt.index + 1} is bad, and is rejected.`)
    if (refusal === undefined && attempt.bad === undefined) attempt.told = 'stored'
  }
  const conflicts = rejections.filter(({ code }) => code === 'conflict').length
  if (counts.conflict !== conflicts || counts.rejected !== rejections.length - conflicts)
    wrong('The counts of what was refused are those of the rejections.')
  const stored = attempts.filter(({ told }) => told === 'stored')
  if (counts.created + counts.duplicate !== stored.length) wrong('The counts add up to the lines.')
  spread(counts, stored, (created) => {
    exchange.createdLines = created
  })
}

/** The service failed after some lines. */
function judgePart(
  exchange: Request['exchange'],
  report: LinesReport,
  outcome: string,
  wrong: (rule: string) => void,
): void {
  const { attempts } = exchange
  const { counts, lines, committedLines, rejections } = report
  const acknowledged = counts.created + counts.duplicate
  if (committedLines > lines || lines > attempts.length) wrong('No more lines are dealt with than were read, and sent.')
  if (outcome === 'not_written' && acknowledged > 0) wrong('What says not_written stored no line.')
  const refusals = judgeRejections(attempts, rejections, wrong)
  let stored = 0
  for (const attempt of attempts.slice(0, committedLines)) {
    const refusal = refusals.get(attempt.index + 1)
    if (attempt.bad !== undefined && refusal === undefined) wrong(`Line ${attempt.index + 1} is bad, and is rejected.`)
    if (attempt.bad !== undefined || refusal !== undefined) continue
    attempt.told = 'stored'
    stored++
  }
  // Lines beyond the first gap may be stored as well; the counts do not say which. What is stored in the end is their bound.
  if (acknowledged < stored) wrong('The counts hold at least the lines up to committedLines.')
  if (acknowledged + counts.conflict + counts.rejected > lines) wrong('No more lines are counted than were read.')
  exchange.createdLines = counts.created
  exchange.storedLines = acknowledged
}

/** Each rejection names a line, once, and the true reason. @returns them by line */
function judgeRejections(
  attempts: Attempt[],
  rejections: Refusal[],
  wrong: (rule: string) => void,
): Map<number, Refusal> {
  const byLine = new Map(rejections.map((rejection) => [rejection.line as number, rejection]))
  if (byLine.size !== rejections.length) wrong('A line is rejected once.')
  for (const [line, rejection] of byLine) {
    const attempt = attempts[line - 1]
    if (attempt === undefined) wrong('No rejection is there without a line.')
    else if (attempt.bad !== undefined) judgeReason(attempt.bad, rejection, wrong)
    else if (rejection.code !== 'conflict') wrong('A good line is not rejected.')
    if (attempt !== undefined) attempt.told = rejection.code === 'conflict' ? 'conflict' : 'refused'
  }
  return byLine
}
