import { isBad } from './plans.ts'
import { requestOf, SPAN } from './records.ts'
import { type Claim, type ClientResponse, isAcknowledged } from './responses.ts'
import type { Stored } from './stored.ts'

/** What one response says about one record. */
export interface Attempt extends Pick<ClientResponse, 'variant' | 'begun' | 'ended'> {
  claim: Claim
  cursor?: string | undefined
  response: ClientResponse
}

export type Complaint = [kind: 'missing' | 'twice' | 'altered' | 'wrong', what: string]

/** Groups the responses by record, in the order in which they arrived. */
export function historiesOf(responses: readonly ClientResponse[]): Map<number, Attempt[]> {
  const histories = new Map<number, Attempt[]>()
  for (const response of responses) {
    const { variant, begun, ended, numbers, claims, cursors } = response
    for (const [index, number] of numbers.entries()) {
      const one = { variant, begun, ended, claim: claims[index] as Claim, cursor: cursors[index], response }
      const history = histories.get(number)
      if (history === undefined) histories.set(number, [one])
      else history.push(one)
    }
  }
  return histories
}

/** Whether this attempt can have stored the record, according to its response. */
const mayHaveStored = ({ claim }: Attempt): boolean =>
  claim === 'created' || claim === 'stored' || claim === 'unknown' || claim === 'nothing'

/** Whether another attempt can have stored this content before this attempt ended. */
const hasForerunner = (one: Attempt, history: readonly Attempt[], variant = one.variant): boolean =>
  history.some((other) => other !== one && other.variant === variant && mayHaveStored(other) && other.begun < one.ended)

/**
 * Compares the responses about one record with the rows of its identity. A client may have sent the record again after a response
 * was lost, and rivals may have sent other content at the same time.
 */
export function* judge(number: number, history: readonly Attempt[], rows: readonly Stored[]): Generator<Complaint> {
  const [row] = rows
  const explain = (what: string) =>
    `${what}; the responses: ${history.map(({ claim, variant }) => `${claim} (${variant})`).join(', ')}`
  for (const _ of rows.slice(1)) yield ['twice', `stored ${rows.length} times`]
  if (isBad(requestOf(number), number % SPAN)) {
    if (row !== undefined) yield ['wrong', explain('stored, but it had to be rejected')]
    if (history.some(({ claim }) => isAcknowledged(claim) || claim === 'conflict'))
      yield ['wrong', explain('not rejected, but it had to be')]
    return
  }
  if (history.some(({ claim }) => claim === 'rejected')) yield ['wrong', explain('rejected, but it is valid')]
  if (row === undefined) {
    if (history.some(({ claim }) => isAcknowledged(claim))) yield ['missing', explain('acknowledged, but not stored')]
    if (history.some(({ claim }) => claim === 'conflict')) yield ['wrong', explain('a conflict, but nothing is stored')]
    return
  }
  if (row.difference !== undefined) {
    yield ['altered', row.difference]
    return
  }
  const stored = history.filter(({ variant }) => variant === row.variant)
  if (!stored.some(mayHaveStored))
    yield ['wrong', explain(`stored with content ${row.variant}, but no response allows it`)]
  if (stored.filter(({ claim }) => claim === 'created').length > 1) yield ['wrong', explain('created more than once')]
  for (const one of history) {
    const { claim, variant, cursor } = one
    const stands = variant === row.variant
    if (isAcknowledged(claim) && !stands)
      yield ['missing', explain(`acknowledged, but content ${row.variant} is stored`)]
    if (claim === 'conflict' && (stands || !hasForerunner(one, history, row.variant)))
      yield ['wrong', explain('a conflict, but no other content can have been stored before')]
    if (claim === 'duplicate' && stands && !hasForerunner(one, history))
      yield ['wrong', explain('a duplicate, but no other request can have stored it before')]
    if (claim === 'created' && stored.some((other) => isAcknowledged(other.claim) && other.ended < one.begun)) {
      yield ['wrong', explain('created after it was acknowledged')]
    }
    if (cursor !== undefined && cursor !== row.cursor)
      yield ['wrong', `the response has the cursor ${cursor}, but the record is stored with ${row.cursor}`]
  }
}

/** Checks what one response says about its records as a whole. */
export function* judgeResponse(
  response: ClientResponse,
  histories: ReadonlyMap<number, readonly Attempt[]>,
  rowOf: (number: number) => Stored | undefined,
): Generator<Complaint> {
  for (const contradiction of response.contradictions) yield ['wrong', contradiction]
  if (response.status === 500) yield ['wrong', 'the status is 500']
  const { counts, numbers, claims, variant } = response
  if (counts === undefined) return
  // If a stream ended early, the counts may include lines after committedLines, which have no result of their own.
  const own = numbers.filter((number) => rowOf(number)?.variant === variant).length
  if (counts.stored > claims.filter(isAcknowledged).length && counts.stored > own) {
    yield ['wrong', `counts ${counts.stored} stored, but ${own} are`]
  }
  if (!claims.includes('stored')) return
  // The response does not say which records it created. The other responses determine how many it can be.
  const attempts = numbers.map((number) => {
    const history = histories.get(number) as readonly Attempt[]
    return { history, one: history.find((one) => one.response === response) as Attempt }
  })
  const open = attempts.filter(({ one }) => mayHaveStored(one))
  const others = open.filter(({ one, history }) => history.some((other) => other !== one && other.claim === 'created'))
  const alone = open.filter(({ one, history }) => one.claim === 'stored' && !hasForerunner(one, history))
  const [least, most] = [alone.length, open.length - others.length]
  if (counts.created < least || counts.created > most) {
    yield ['wrong', `counts ${counts.created} created, but the other responses allow ${least} to ${most}`]
  }
}

/**
 * Checks that a batch that was only sent with handling=strict is stored completely or not at all.
 * @param responses all responses to this request with this content
 */
export function* judgeStrict(
  responses: readonly ClientResponse[],
  rowOf: (number: number) => Stored | undefined,
): Generator<Complaint> {
  const [response] = responses
  if (response === undefined || !responses.every(({ strict }) => strict)) return
  const { numbers, variant } = response
  const stored = numbers.filter((number) => rowOf(number)?.variant === variant).length
  if (stored > 0 && stored < numbers.length) {
    yield ['wrong', `${stored} of ${numbers.length} records of a strict batch are stored`]
  }
}
