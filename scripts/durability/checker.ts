import { contentOf } from './records.ts'

/** One try to store some records: a request, and what came of it. */
export interface Answer {
  /** The records of the request, by number. */
  numbers: readonly number[]
  /** Of HTTP; undefined: the connection broke, or nothing came in time. */
  status?: number
  /** What became of each record, where the answer says so. */
  results?: readonly string[]
  /** What a refusal says of the request as a whole. */
  outcome?: string
  /** Why there is no answer, or what the refusal says; for people. */
  reason?: string
}

/** A row of the table `records` that belongs to the run. */
export interface Stored {
  number: number
  content: string
}

/** All counts are of records, but for `errors`, which are requests. */
export interface Verdict {
  sent: number
  /** Told created or duplicate. */
  acknowledged: number
  stored: number
  /** Acknowledged, and not there as it was sent. */
  missing: number
  /** Rows more than one for the same record. */
  twice: number
  /** What the answers say cannot be true, given what is stored. */
  wrong: number
  /** Requests that were refused or not answered. */
  errors: number
  /** The first few of each kind of complaint, for people. */
  examples: string[]
}

const EXAMPLES = 10

/**
 * Compares what clients were told with what is stored. A record may be in several answers: it was sent again.
 * @param answers in the order in which they came; of one record, one after the other
 */
export function check(answers: readonly Answer[], rows: readonly Stored[]): Verdict {
  const told = historiesOf(answers)
  const stored = Map.groupBy(rows, ({ number }) => number)
  const verdict: Verdict = {
    sent: told.size,
    acknowledged: 0,
    stored: stored.size,
    missing: 0,
    twice: 0,
    wrong: 0,
    errors: 0,
    examples: [],
  }

  for (const [number, history] of told) {
    const found = stored.get(number) ?? []
    const acknowledged = history.some(isAcknowledged)
    if (acknowledged) verdict.acknowledged++
    if (acknowledged && !found.some(({ content }) => content === contentOf(number))) {
      complain('missing', number, found.length === 0 ? 'acknowledged, not stored' : 'stored otherwise than sent')
    }
    if (found.length > 1) complain('twice', number, `stored ${found.length} times`, found.length - 1)
    const lie = lieOf(history, found.length > 0)
    if (lie !== undefined) complain('wrong', number, `${lie}: told ${history.join(', ')}`)
  }
  for (const number of stored.keys()) if (!told.has(number)) complain('wrong', number, 'stored, but never sent')
  for (const { status, reason, numbers } of answers) {
    if (status !== undefined && status < 300) continue
    verdict.errors++
    remark(`record ${numbers[0]}: ${status ?? 'no answer'}${reason === undefined ? '' : `: ${reason}`}`)
  }
  return verdict

  function complain(kind: 'missing' | 'twice' | 'wrong', number: number, what: string, count = 1): void {
    verdict[kind] += count
    remark(`record ${number}: ${what}`)
  }

  function remark(text: string): void {
    if (verdict.examples.length < EXAMPLES) verdict.examples.push(text)
  }
}

/** What one try told of one record. */
type Told = 'created' | 'duplicate' | 'conflict' | 'not_written' | 'unknown' | 'nothing'

function historiesOf(answers: readonly Answer[]): Map<number, Told[]> {
  const histories = new Map<number, Told[]>()
  for (const answer of answers) {
    for (const [index, number] of answer.numbers.entries()) {
      const history = histories.get(number)
      if (history === undefined) histories.set(number, [toldOf(answer, index)])
      else history.push(toldOf(answer, index))
    }
  }
  return histories
}

function toldOf({ status, results, outcome }: Answer, index: number): Told {
  if (status === undefined) return 'nothing'
  const result = results?.[index]
  if (result === 'created' || result === 'duplicate' || result === 'conflict') return result
  if (result === 'rejected' || outcome === 'not_written') return 'not_written'
  return 'unknown'
}

const isAcknowledged = (told: Told) => told === 'created' || told === 'duplicate'

/** After one of these the record may be stored, though nobody was told. */
const isOpen = (told: Told) => told === 'unknown' || told === 'nothing'

/** What is untrue in what was told of a record; undefined when it all holds. */
function lieOf(history: readonly Told[], stored: boolean): string | undefined {
  if (stored && history.every((told) => told === 'not_written')) return 'said not written, but it is stored'
  if (history.filter((told) => told === 'created').length > 1) return 'created more than once'
  if (history.includes('conflict')) return 'a conflict with itself'
  const first = history.findIndex(isAcknowledged)
  if (history[first] === 'duplicate' && !history.slice(0, first).some(isOpen)) return 'a duplicate of nothing'
  return undefined
}
