import {
  type ConsumerRow,
  type ConsumerWithLag,
  deleteConsumer,
  insertConsumer,
  type Revisions,
  selectConsumers,
  updateConsumer,
} from '../data/consumers.ts'
import { decodeOffset, encodeOffset, type Position } from '../lib/offset.ts'
import { toRfc3339 } from '../lib/pg-time.ts'
import { refuseInvalidOffset } from '../read/check-offset.ts'
import { inTurn, type Reader } from '../read/reader.ts'
import type { ConsumerDocument, StoredConsumerDocument } from '../schemas/consumers.ts'
import { checkOffset } from './query.ts'
import { readHead, START_OFFSET } from './read-page.ts'

/** A consumer, and its revision, which changes with each stored offset. */
export interface Consumer<Document = StoredConsumerDocument> {
  document: Document
  revision: string
}

/** All consumers, by name. @throws Problem overloaded; the reason of the reader's signal */
export async function listConsumers(reader: Reader): Promise<ConsumerDocument[]> {
  const rows = await inTurn(reader, () => selectConsumers(reader.db, undefined, reader.signal))
  return rows.map((row) => withLag(row).document)
}

/** @throws Problem overloaded; the reason of the reader's signal */
export async function findConsumer(reader: Reader, name: string): Promise<Consumer<ConsumerDocument> | undefined> {
  const [row] = await inTurn(reader, () => selectConsumers(reader.db, name, reader.signal))
  return row && withLag(row)
}

/**
 * The position of an offset that a client sends.
 * @param offset `-1`: the start; `now`: the head at this time
 * @throws Problem invalid_offset, offset_ahead, overloaded; the reason of the reader's signal
 */
export async function readPosition(reader: Reader, offset: string): Promise<Position> {
  const checked = checkOffset('/offset', offset)
  const position = decodeOffset(checked === 'now' ? await readHead(reader) : checked) as Position
  if (checked !== 'now' && checked !== START_OFFSET) await refuseInvalidOffset(position, undefined, reader)
  return position
}

/** @returns `exists`, also if the consumer was deleted since; `full`: there are as many consumers as there may be */
export async function createConsumer(
  reader: Reader,
  name: string,
  position: Position,
): Promise<Consumer | 'exists' | 'full'> {
  const row = await inTurn(reader, () => insertConsumer(reader.db, name, position))
  return typeof row === 'string' ? row : toConsumer(row)
}

/** Stores another offset. It may be lower: then the consumer reads records again. @returns undefined if no revision matches */
export async function moveConsumer(
  reader: Reader,
  name: string,
  position: Position,
  revisions: Revisions,
): Promise<Consumer | undefined> {
  const row = await inTurn(reader, () => updateConsumer(reader.db, name, position, onlyUuids(revisions)))
  return row && toConsumer(row)
}

/** @returns false if there is no consumer with this name and one of these revisions */
export const removeConsumer = (reader: Reader, name: string, revisions: Revisions): Promise<boolean> =>
  inTurn(reader, () => deleteConsumer(reader.db, name, onlyUuids(revisions)))

/** Any other text is the ETag of something else, and PostgreSQL would refuse it. It accepts upper case, which is another ETag. */
const onlyUuids = (revisions: Revisions): Revisions =>
  revisions === 'any' ? 'any' : revisions.filter((one) => /^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/.test(one))

function toConsumer(row: ConsumerRow): Consumer {
  const { name, epoch, xid, n, revision, created_at, updated_at, overtaken_at } = row
  const document = {
    name,
    offset: encodeOffset({ epoch, xid, n: Number(n) }),
    createdAt: toRfc3339(created_at),
    updatedAt: toRfc3339(updated_at),
    overtakenAt: overtaken_at === null ? null : toRfc3339(overtaken_at),
  }
  return { document, revision }
}

function withLag({ records, is_exact, seconds, ...row }: ConsumerWithLag): Consumer<ConsumerDocument> {
  const { document, revision } = toConsumer(row)
  return { document: { ...document, lag: { records: Math.round(records), isExact: is_exact, seconds } }, revision }
}
