import {
  type Attempt,
  type History,
  type IdentityHistory,
  isAcknowledged,
  isRemovable,
  type Sighting,
} from './history.ts'
import { OWN } from './requests.ts'

/** A row of the table at the end of a round. */
export interface StoredRow {
  identity: string
  cursor: string
  digest: string
}

/** Some record that stood under an identity for a while; the cursor tells it from those before and after. */
interface Life {
  cursor: string
  rows: StoredRow[]
  sightings: Sighting[]
  attempts: Attempt[]
}

/** Compares all that was told and seen with what is stored, when nobody writes any more. */
export function judgeRound(history: History, rows: StoredRow[]): void {
  const byIdentity = Map.groupBy(rows, ({ identity }) => identity)
  for (const identity of byIdentity.keys())
    if (!history.identities.has(identity)) history.complain('No record is stored that nobody sent.', identity)
  for (const [identity, own] of history.identities)
    judgeIdentity(history, identity, own, byIdentity.get(identity) ?? [])
  judgeStrict(history, byIdentity)
  judgeCounts(history, byIdentity)
}

function judgeIdentity(history: History, identity: string, own: IdentityHistory, rows: StoredRow[]): void {
  const wrong = (rule: string, detail = '') => history.complain(rule, detail, identity)
  if (rows.length > 1) wrong('An identity is stored once.')
  const removable = isRemovable(identity)
  const lives = livesOf(own, rows, removable ? undefined : rows[0]?.cursor)
  for (const life of lives) judgeLife(life, own, wrong)
  const acknowledged = own.attempts.filter(isAcknowledged)
  const created = acknowledged.filter(({ told }) => told === 'created')
  if (removable) {
    const begin = Math.min(...created.map(({ exchange }) => exchange.begin))
    const end = Math.max(...created.map(({ exchange }) => exchange.end))
    if (created.length > 1 && !history.mayHaveRemoved(begin, end))
      wrong('An identity is told created once, unless retention removed it in between.')
    return
  }
  if (lives.length > 1) wrong('A record keeps its cursor.', lives.map(({ cursor }) => cursor).join(' '))
  if (rows.length === 0 && acknowledged.length > 0) wrong('What is acknowledged is stored.')
  const known = Math.min(...acknowledged.map(({ exchange }) => exchange.end), ...own.sightings.map(({ end }) => end))
  for (const { begin } of own.absences)
    if (begin > known) wrong('A read finds what was acknowledged before.', `404 to a read that began at ${begin} ms`)
}

/** @param only the cursor of an identity that has one: what was told without a cursor is about it, too */
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

/** All answers and pages agree about this record, and a sender who may have written it did send it. */
function judgeLife({ cursor, rows, sightings, attempts }: Life, own: IdentityHistory, wrong: Wrong): void {
  const at = `at ${cursor}`
  const creators = attempts.filter(({ told }) => told === 'created')
  const digests = new Set([...rows, ...sightings, ...creators].map(({ digest }) => digest))
  if (creators.length > 1) wrong('A record is told created once.', at)
  if (digests.size > 1) wrong('A record is stored, and shown, exactly as it was sent.', at)
  // It was removed before anybody saw it, or is known by conflicts and duplicates alone.
  if (digests.size === 0) return
  const [digest] = [...digests]
  const senders = own.attempts.filter((attempt) => attempt.digest === digest)
  const mayBeCreators = creators.length > 0 ? creators : senders.filter(mayHaveWritten)
  const [sender] = senders
  if (sender === undefined) return void wrong('What is stored was sent.', at)
  if (mayBeCreators.length === 0)
    wrong('Somebody who may have written a record wrote it.', `${at}: ${senders.map(({ told }) => told).join(' ')}`)
  for (const { told, key, exchange } of attempts) {
    if (told === 'conflict' && key === sender.key)
      wrong('A conflict is told only where other content stands.', `${at}: request ${exchange.number}`)
    if ((told === 'duplicate' || told === 'stored') && key !== sender.key)
      wrong('A duplicate is told only where the same content stands.', `${at}: request ${exchange.number}`)
  }
  const begin = Math.min(...mayBeCreators.map(({ exchange }) => exchange.begin))
  const others = attempts.map(({ exchange }) => exchange)
  for (const { end } of [...sightings, ...others])
    if (end < begin) wrong('Nobody is told of a record before it is sent.', `${at}: at ${end} ms`)
}

/**
 * Told so without a cursor, or not told. A record that retention may have removed meanwhile can also be the first try of a
 * request that wrote another one, or met one, when it tried again.
 */
const mayHaveWritten = ({ told, cursor, identity }: Attempt): boolean =>
  told === 'unknown' ||
  told === 'stored' ||
  (told === 'created' && cursor === undefined) ||
  (isRemovable(identity) && told !== 'refused' && told !== 'not_written')

/** Of a strict request whose answer is not known, all records that nobody else sent are stored, or none. */
function judgeStrict(history: History, rows: Map<string, StoredRow[]>): void {
  for (const { number, strict, attempts } of history.exchanges) {
    const own = attempts.filter(({ identity, bad }) => strict && bad === undefined && identity.startsWith(OWN))
    const stored = own.filter(({ identity }) => rows.has(identity))
    if (stored.length > 0 && stored.length < own.length)
      history.complain('A strict request is stored as a whole, or not at all.', `request ${number}`, own[0]?.identity)
  }
}

/** Where only numbers are told, they can be true. */
function judgeCounts(history: History, rows: Map<string, StoredRow[]>): void {
  for (const { number, createdLines, storedLines, attempts } of history.exchanges) {
    if (createdLines === undefined) continue
    const broke = storedLines !== undefined
    let [must, may, stored] = [0, 0, 0]
    for (const attempt of attempts.filter(({ told }) => told === 'stored' || (broke && told === 'unknown'))) {
      const [row] = rows.get(attempt.identity) ?? []
      const all = history.of(attempt.identity).attempts
      const others = all.filter((other) => other !== attempt)
      const standing = all.find(({ digest }) => digest === row?.digest)
      if (isRemovable(attempt.identity) || standing?.key === attempt.key) stored++
      if (isRemovable(attempt.identity)) may++
      else if (row?.digest !== attempt.digest || others.some(({ told }) => told === 'created')) continue
      else if (
        attempt.told === 'unknown' ||
        others.some(({ told, digest }) => digest === row.digest && (told === 'unknown' || told === 'stored'))
      )
        may++
      else must++
    }
    if (createdLines < must || createdLines > must + may)
      history.complain(
        'The number of created records is true.',
        `request ${number}: ${createdLines}, not ${must} to ${must + may}`,
      )
    if (broke && storedLines > stored)
      history.complain(
        'No more lines are counted as stored than are stored.',
        `request ${number}: ${storedLines}, not ${stored}`,
      )
  }
}
