import { compareCursors } from './contents.ts'
import {
  type Attempt,
  type History,
  type IdentityHistory,
  isAcknowledged,
  isDeletable,
  type Sighting,
} from './history.ts'
import { OWN } from './requests.ts'

/** A row of the table at the end of a round. */
export interface StoredRow {
  identity: string
  cursor: string
  digest: string
}

/** A record that had an identity until retention deleted it, or still has it. Its cursor distinguishes it from earlier and later ones. */
interface Life {
  cursor: string
  rows: StoredRow[]
  sightings: Sighting[]
  attempts: Attempt[]
}

/** Compares all responses and reads with the stored rows, after the last write. @param rows in feed order */
export function judgeRound(history: History, rows: StoredRow[]): void {
  const byIdentity = Map.groupBy(rows, ({ identity }) => identity)
  for (const identity of byIdentity.keys())
    if (!history.identities.has(identity)) history.complain('A stored record must have been sent.', identity)
  for (const [identity, own] of history.identities)
    judgeIdentity(history, identity, own, byIdentity.get(identity) ?? [])
  for (const [index, { identity, cursor }] of rows.entries())
    if (index > 0 && compareCursors(cursor, rows[index - 1]?.cursor ?? '') <= 0)
      history.complain('Offsets must sort in feed order.', `at ${cursor}`, identity)
  judgeStrict(history, byIdentity)
  judgeCounts(history, byIdentity)
}

function judgeIdentity(history: History, identity: string, own: IdentityHistory, rows: StoredRow[]): void {
  const wrong = (rule: string, detail = '') => history.complain(rule, detail, identity)
  if (rows.length > 1) wrong('An identity must be stored only once.')
  const deletable = isDeletable(identity)
  const lives = livesOf(own, rows, deletable ? undefined : rows[0]?.cursor)
  for (const life of lives) judgeLife(life, own, wrong)
  const acknowledged = own.attempts.filter(isAcknowledged)
  const created = acknowledged.filter(({ claim }) => claim === 'created')
  if (deletable) {
    const begin = Math.min(...created.map(({ exchange }) => exchange.begin))
    const end = Math.max(...created.map(({ exchange }) => exchange.end))
    if (created.length > 1 && !history.mayHaveRemoved(begin, end))
      wrong('An identity must be created only once, unless retention deleted it in between.')
    return
  }
  if (lives.length > 1) wrong('A record must keep its cursor.', lives.map(({ cursor }) => cursor).join(' '))
  for (const { cursor, rows, sightings } of lives)
    if (rows.length === 0 && sightings.length > 0) wrong('A record that is shown must be stored.', `at ${cursor}`)
  if (rows.length === 0 && acknowledged.length > 0) wrong('An acknowledged record must be stored.')
  const known = Math.min(...acknowledged.map(({ exchange }) => exchange.end), ...own.sightings.map(({ end }) => end))
  for (const { begin } of own.absences)
    if (begin > known)
      wrong('A read must find a record that was acknowledged before.', `404 for a read that began at ${begin} ms`)
}

/** @param only the cursor of an identity that has only one; responses without a cursor must then be about it */
function livesOf({ attempts, sightings }: IdentityHistory, rows: StoredRow[], only: string | undefined): Life[] {
  const lives = new Map<string, Life>()
  const lifeAt = (cursor: string): Life => {
    const life = lives.get(cursor) ?? { cursor, rows: [], sightings: [], attempts: [] }
    lives.set(cursor, life)
    return life
  }
  for (const row of rows) lifeAt(row.cursor).rows.push(row)
  for (const sighting of sightings) lifeAt(sighting.cursor).sightings.push(sighting)
  for (const attempt of attempts.filter(isAcknowledged)) {
    const cursor = attempt.cursor ?? only
    if (cursor !== undefined) lifeAt(cursor).attempts.push(attempt)
  }
  return [...lives.values()]
}

type Wrong = (rule: string, detail?: string) => void

/** Checks that all responses and reads agree about this record, and that the response of one of its senders allows it to be stored. */
function judgeLife({ cursor, rows, sightings, attempts }: Life, own: IdentityHistory, wrong: Wrong): void {
  const at = `at ${cursor}`
  const creators = attempts.filter(({ claim }) => claim === 'created')
  const digests = new Set([...rows, ...sightings, ...creators].map(({ digest }) => digest))
  if (creators.length > 1) wrong('Only one response may say that it created a record.', at)
  if (digests.size > 1) wrong('A record must be stored and shown exactly as it was sent.', at)
  // It was deleted before a reader saw it, or only conflicts and duplicates mention it.
  if (digests.size === 0) return
  const [digest] = [...digests]
  const senders = own.attempts.filter((attempt) => attempt.digest === digest)
  const mayBeCreators = creators.length > 0 ? creators : senders.filter(mayHaveWritten)
  const [sender] = senders
  if (sender === undefined) return void wrong('Stored content must have been sent.', at)
  if (mayBeCreators.length === 0)
    wrong(
      'The response to a sender of a stored record must allow that it was stored.',
      `${at}: ${senders.map(({ claim }) => claim).join(' ')}`,
    )
  for (const { claim, key, exchange } of attempts) {
    if (claim === 'conflict' && key === sender.key)
      wrong('A record may be a conflict only if other content is stored.', `${at}: request ${exchange.number}`)
    if ((claim === 'duplicate' || claim === 'stored') && key !== sender.key)
      wrong('A record may be a duplicate only if the same content is stored.', `${at}: request ${exchange.number}`)
  }
  const begin = Math.min(...mayBeCreators.map(({ exchange }) => exchange.begin))
  const others = attempts.map(({ exchange }) => exchange)
  for (const { end } of [...sightings, ...others])
    if (end < begin) wrong('No response or read may mention a record before it is sent.', `${at}: at ${end} ms`)
}

/**
 * The response leaves open whether this attempt wrote the record, or says that it created a record without a cursor. If retention may
 * have deleted records, an attempt may also have written a record in its first try, and report another one after a later try.
 */
const mayHaveWritten = ({ claim, cursor, identity }: Attempt): boolean =>
  claim === 'unknown' ||
  claim === 'stored' ||
  (claim === 'created' && cursor === undefined) ||
  (isDeletable(identity) && claim !== 'refused' && claim !== 'not_written')

/** Of the records that only one strict request sent, all must be stored, or none, even if its outcome is unknown. */
function judgeStrict(history: History, rows: Map<string, StoredRow[]>): void {
  for (const { number, strict, attempts } of history.exchanges) {
    const own = attempts.filter(({ identity, bad }) => strict && bad === undefined && identity.startsWith(OWN))
    const stored = own.filter(({ identity }) => rows.has(identity))
    if (stored.length > 0 && stored.length < own.length)
      history.complain(
        'A strict request must be stored completely or not at all.',
        `request ${number}`,
        own[0]?.identity,
      )
  }
}

/** Checks the counts of responses that do not list each record. */
function judgeCounts(history: History, rows: Map<string, StoredRow[]>): void {
  for (const { number, createdLines, storedLines, attempts } of history.exchanges) {
    if (createdLines === undefined) continue
    const broke = storedLines !== undefined
    let [must, may, stored] = [0, 0, 0]
    for (const attempt of attempts.filter(({ claim }) => claim === 'stored' || (broke && claim === 'unknown'))) {
      const [row] = rows.get(attempt.identity) ?? []
      const all = history.of(attempt.identity).attempts
      const others = all.filter((other) => other !== attempt)
      const storedAttempt = all.find(({ digest }) => digest === row?.digest)
      if (isDeletable(attempt.identity) || storedAttempt?.key === attempt.key) stored++
      if (isDeletable(attempt.identity)) may++
      else if (row?.digest !== attempt.digest || others.some(({ claim }) => claim === 'created')) continue
      else if (
        attempt.claim === 'unknown' ||
        others.some(({ claim, digest }) => digest === row.digest && (claim === 'unknown' || claim === 'stored'))
      )
        may++
      else must++
    }
    if (createdLines < must || createdLines > must + may)
      history.complain(
        'The number of created records must be true.',
        `request ${number}: ${createdLines}, not ${must} to ${must + may}`,
      )
    if (broke && storedLines > stored)
      history.complain(
        'The number of stored lines must not exceed the lines that are stored.',
        `request ${number}: ${storedLines}, not ${stored}`,
      )
  }
}
