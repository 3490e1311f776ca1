import { type Answer, isAcknowledged, type Told } from './answers.ts'
import { isBad } from './plans.ts'
import { requestOf, SPAN } from './records.ts'
import type { Stored } from './stored.ts'

/** What one try told of one record. */
export interface Try extends Pick<Answer, 'variant' | 'begun' | 'ended'> {
  told: Told
  cursor?: string | undefined
  answer: Answer
}

export type Complaint = [kind: 'missing' | 'twice' | 'altered' | 'wrong', what: string]

/** All that was told of each record. */
export function historiesOf(answers: readonly Answer[]): Map<number, Try[]> {
  const histories = new Map<number, Try[]>()
  for (const answer of answers) {
    const { variant, begun, ended, numbers, told, cursors } = answer
    for (const [index, number] of numbers.entries()) {
      const one = { variant, begun, ended, told: told[index] as Told, cursor: cursors[index], answer }
      const history = histories.get(number)
      if (history === undefined) histories.set(number, [one])
      else history.push(one)
    }
  }
  return histories
}

/** May the record have been stored by this try? */
export const mayHaveStored = ({ told }: Try): boolean =>
  told === 'created' || told === 'stored' || told === 'unknown' || told === 'nothing'

/** May another try have stored this content before this one was over? */
export const hasForerunner = (one: Try, history: readonly Try[], variant = one.variant): boolean =>
  history.some((other) => other !== one && other.variant === variant && mayHaveStored(other) && other.begun < one.ended)

/**
 * Compares what was told of a record with the rows that are stored under its identity.
 * A record may have been sent again after an answer was lost, and by rivals with other content, all at the same time.
 */
export function* judge(number: number, history: readonly Try[], rows: readonly Stored[]): Generator<Complaint> {
  const [row] = rows
  const tell = (what: string) =>
    `${what}: told ${history.map(({ told, variant }) => `${told} (${variant})`).join(', ')}`
  for (const _ of rows.slice(1)) yield ['twice', `stored ${rows.length} times`]
  if (isBad(requestOf(number), number % SPAN)) {
    if (row !== undefined) yield ['wrong', tell('stored, and it had to be refused')]
    if (history.some(({ told }) => isAcknowledged(told) || told === 'conflict')) yield ['wrong', tell('not refused')]
    return
  }
  if (history.some(({ told }) => told === 'rejected')) yield ['wrong', tell('rejected for nothing')]
  if (row === undefined) {
    if (history.some(({ told }) => isAcknowledged(told))) yield ['missing', tell('acknowledged, not stored')]
    if (history.some(({ told }) => told === 'conflict')) yield ['wrong', tell('a conflict with nothing')]
    return
  }
  if (row.difference !== undefined) {
    yield ['altered', row.difference]
    return
  }
  const stored = history.filter(({ variant }) => variant === row.variant)
  if (!stored.some(mayHaveStored)) yield ['wrong', tell(`stored (${row.variant}), and no answer allows it`)]
  if (stored.filter(({ told }) => told === 'created').length > 1) yield ['wrong', tell('created more than once')]
  for (const one of history) {
    const { told, variant, cursor } = one
    const stands = variant === row.variant
    if (isAcknowledged(told) && !stands)
      yield ['missing', tell(`acknowledged, and other content (${row.variant}) stands`)]
    if (told === 'conflict' && (stands || !hasForerunner(one, history, row.variant)))
      yield ['wrong', tell('a conflict with itself')]
    if (told === 'duplicate' && stands && !hasForerunner(one, history)) yield ['wrong', tell('a duplicate of nothing')]
    if (told === 'created' && stored.some((other) => isAcknowledged(other.told) && other.ended < one.begun)) {
      yield ['wrong', tell('created, and it had been acknowledged before')]
    }
    if (cursor !== undefined && cursor !== row.cursor)
      yield ['wrong', `told the cursor ${cursor}, stored under ${row.cursor}`]
  }
}

/** What one answer says of its records together, where that cannot be. */
export function* judgeAnswer(
  answer: Answer,
  histories: ReadonlyMap<number, readonly Try[]>,
  rowOf: (number: number) => Stored | undefined,
): Generator<Complaint> {
  for (const contradiction of answer.contradictions) yield ['wrong', contradiction]
  if (answer.status === 500) yield ['wrong', 'answered 500']
  const { counts, numbers, told, variant } = answer
  if (counts === undefined) return
  // More than it tells of one by one: lines further down, of which it is not told which.
  const own = numbers.filter((number) => rowOf(number)?.variant === variant).length
  if (counts.stored > told.filter(isAcknowledged).length && counts.stored > own) {
    yield ['wrong', `told ${counts.stored} stored, and ${own} are`]
  }
  if (!told.includes('stored')) return
  // Who created them is not told one by one.
  const tries = numbers.map((number) => {
    const history = histories.get(number) as readonly Try[]
    return { history, one: history.find((one) => one.answer === answer) as Try }
  })
  const open = tries.filter(({ one }) => mayHaveStored(one))
  const others = open.filter(({ one, history }) => history.some((other) => other !== one && other.told === 'created'))
  const alone = open.filter(({ one, history }) => one.told === 'stored' && !hasForerunner(one, history))
  const [least, most] = [alone.length, open.length - others.length]
  if (counts.created < least || counts.created > most) {
    yield ['wrong', `told ${counts.created} created; by all answers it was ${least} to ${most}`]
  }
}

/**
 * Of a batch that was only ever sent as all or nothing: is a part of it stored?
 * @param answers all with this request and this content
 */
export function* judgeStrict(
  answers: readonly Answer[],
  rowOf: (number: number) => Stored | undefined,
): Generator<Complaint> {
  const [answer] = answers
  if (answer === undefined || !answers.every(({ strict }) => strict)) return
  const { numbers, variant } = answer
  const stored = numbers.filter((number) => rowOf(number)?.variant === variant).length
  if (stored > 0 && stored < numbers.length) {
    yield ['wrong', `${stored} of ${numbers.length} records of a strict batch are stored`]
  }
}
