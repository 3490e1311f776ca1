import { type Answer, isAcknowledged } from './answers.ts'
import { compareFeed } from './feed.ts'
import { type Complaint, historiesOf, judge, judgeAnswer, judgeStrict, type Try } from './histories.ts'
import { idOf } from './records.ts'
import type { Stored } from './stored.ts'

/** All counts are of records, but for `errors` and `unsent`, which are requests. A record is known by its identity. */
export interface Verdict {
  sent: number
  /** Told created or duplicate. */
  acknowledged: number
  /** Never acknowledged, since they, or a strict batch that they were in, had to be refused. */
  refused: number
  stored: number
  /** Acknowledged, and not there. */
  missing: number
  /** Rows more than one for the same record. */
  twice: number
  /** Stored otherwise than anyone sent it. */
  altered: number
  /** What the answers say cannot be true, given what is stored and what else was answered. */
  wrong: number
  /** Shown to the reader who followed otherwise than once, whole, in order and under its cursor; or not at all. */
  misread: number
  /** Requests that were not answered, or refused for another reason than their content. */
  errors: number
  /** Connections that were refused: nothing was sent. */
  unsent: number
  /** The first few complaints, for people. */
  examples: string[]
}

export interface Evidence {
  answers: readonly Answer[]
  /** The table, in the order of the feed. */
  rows: readonly Stored[]
  /** What the reader was shown who followed, in that order. */
  shown: readonly Stored[]
}

const EXAMPLES = 10

/** Refused for what they hold: 409 conflict, 422 rejected. */
const CONTENT: readonly unknown[] = [409, 422]

const isRefused = ({ told, answer }: Try) => told === 'rejected' || CONTENT.includes(answer.status)

/** Compares what clients were told with what is stored, and with what a reader was shown. */
export function check({ answers, rows, shown }: Evidence): Verdict {
  const histories = historiesOf(answers)
  const stored = Map.groupBy(rows, ({ number }) => number)
  const rowOf = (number: number) => stored.get(number)?.[0]
  const verdict: Verdict = {
    sent: histories.size,
    acknowledged: 0,
    refused: 0,
    stored: stored.size,
    missing: 0,
    twice: 0,
    altered: 0,
    wrong: 0,
    misread: 0,
    errors: 0,
    unsent: 0,
    examples: [],
  }

  for (const [number, history] of histories) {
    const found = stored.get(number) ?? []
    if (history.some(({ told }) => isAcknowledged(told))) verdict.acknowledged++
    else if (history.some(isRefused)) verdict.refused++
    complain(`record ${idOf(number)}`, judge(number, history, found))
  }
  for (const { number, id } of rows) {
    if (number === undefined || !histories.has(number)) complain(`record ${id}`, [['wrong', 'stored, and never sent']])
  }
  for (const answer of answers) complain(nameOf(answer), judgeAnswer(answer, histories, rowOf))
  for (const same of Map.groupBy(answers, ({ request, variant }) => `${request} ${variant}`).values()) {
    complain(nameOf(same[0] as Answer), judgeStrict(same, rowOf))
  }
  for (const { id, what } of compareFeed(shown, rows)) {
    verdict.misread++
    remark(`record ${id}: ${what}`)
  }
  for (const answer of answers) {
    const { status, reason, unsent } = answer
    if (unsent) verdict.unsent++
    else if (status === undefined || (status >= 300 && !CONTENT.includes(status))) {
      verdict.errors++
      remark(`${nameOf(answer)}: ${status ?? 'no answer'}${reason === undefined ? '' : `: ${reason}`}`)
    }
  }
  return verdict

  function complain(name: string, complaints: Iterable<Complaint>): void {
    for (const [kind, what] of complaints) {
      verdict[kind]++
      remark(`${name}: ${what}`)
    }
  }

  function remark(text: string): void {
    if (verdict.examples.length < EXAMPLES) verdict.examples.push(text)
  }
}

const nameOf = ({ request, variant }: Answer) => `request ${request}${variant === 0 ? '' : ` (${variant})`}`
