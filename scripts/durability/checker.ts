import { compareFeed } from './feed.ts'
import { type Attempt, type Complaint, historiesOf, judge, judgeResponse, judgeStrict } from './histories.ts'
import type { Observer } from './observer.ts'
import { idOf } from './records.ts'
import { type ClientResponse, isAcknowledged } from './responses.ts'
import type { Stored } from './stored.ts'

/** Counts of records by identity. `errors` and `unsent` count requests. */
export interface Verdict {
  sent: number
  /** Reported as created or duplicate. */
  acknowledged: number
  /** Never acknowledged, because the record, or the strict batch that contains it, is invalid. */
  refused: number
  stored: number
  /** Acknowledged, but not stored with that content. */
  missing: number
  /** Additional rows of the same record. */
  twice: number
  /** Stored with a content that no client sent. */
  altered: number
  /** Responses that cannot be true, given the stored rows and the other responses. */
  wrong: number
  /** Records that an observer saw again. Each observer counts. */
  shown_twice: number
  /** Records that an observer did not see. */
  never_shown: number
  /** Records that an observer saw altered, out of order, with another cursor or without a row, and its other wrong responses. */
  misread: number
  /** Requests without a response, or refused for a reason other than their content. */
  errors: number
  /** Requests that were never sent, because the connection was refused. */
  unsent: number
  /** The first complaints, as text. */
  examples: string[]
}

interface Evidence {
  responses: readonly ClientResponse[]
  /** The rows of the table, in the order of the feed. */
  rows: readonly Stored[]
  observers: readonly Observer[]
}

const EXAMPLES = 10

/** The statuses of requests that are refused for their content. */
const CONTENT: readonly unknown[] = [409, 422]

const isRefused = ({ claim, response }: Attempt) => claim === 'rejected' || CONTENT.includes(response.status)

/** Compares the responses that clients got with the stored rows, and these with the records that observers saw. */
export function check({ responses, rows, observers }: Evidence): Verdict {
  const histories = historiesOf(responses)
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
    shown_twice: 0,
    never_shown: 0,
    misread: 0,
    errors: 0,
    unsent: 0,
    examples: [],
  }

  for (const [number, history] of histories) {
    const found = stored.get(number) ?? []
    if (history.some(({ claim }) => isAcknowledged(claim))) verdict.acknowledged++
    else if (history.some(isRefused)) verdict.refused++
    complain(`record ${idOf(number)}`, judge(number, history, found))
  }
  for (const { number, id } of rows) {
    if (number === undefined || !histories.has(number)) complain(`record ${id}`, [['wrong', 'stored, but never sent']])
  }
  for (const response of responses) complain(nameOf(response), judgeResponse(response, histories, rowOf))
  for (const same of Map.groupBy(responses, ({ request, variant }) => `${request} ${variant}`).values()) {
    complain(nameOf(same[0] as ClientResponse), judgeStrict(same, rowOf))
  }
  for (const { name, shown, wrong } of observers) {
    for (const { kind, id, what } of compareFeed(shown, rows)) {
      verdict[kind]++
      remark(`${name}: record ${id}: ${what}`)
    }
    verdict.misread += wrong.length
    for (const what of wrong) remark(`${name}: ${what}`)
  }
  for (const response of responses) {
    const { status, reason, unsent } = response
    if (unsent) verdict.unsent++
    else if (status === undefined || (status >= 300 && !CONTENT.includes(status))) {
      verdict.errors++
      remark(`${nameOf(response)}: ${status ?? 'no response'}${reason === undefined ? '' : `: ${reason}`}`)
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

const nameOf = ({ request, variant }: ClientResponse) => `request ${request}${variant === 0 ? '' : ` (${variant})`}`
