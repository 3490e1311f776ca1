import { type Selectable, sql } from 'kysely'
import type { Position } from '../lib/offset.ts'
import { readRows } from '../postgres/read-rows.ts'
import { synchronousTransaction } from '../postgres/session.ts'
import type { Database, Tables } from '../postgres/tables.ts'
import { type LagColumns, withLag } from './consumer-lag.ts'

export type ConsumerRow = Selectable<Tables['sluice.consumers']>

export type ConsumerWithLag = ConsumerRow & LagColumns

/**
 * Each consumer is a time series in three metrics of every instance. Far more than this are most likely made by a program that takes
 * a new name at each start.
 */
const MAX_CONSUMERS = 1000

/** Not `*`: a prepared statement would fail after a migration that adds a column. */
const COLUMNS = sql`name, epoch, xid, n, revision, created_at, updated_at, overtaken_at`

/** Which states of a consumer a change is for: any, or those with these revisions. */
export type Revisions = 'any' | readonly string[]

/** All consumers by name, or one, with their lags. @param signal cancels the statement. @throws the reason of `signal` */
export async function selectConsumers(db: Database, name?: string, signal?: AbortSignal): Promise<ConsumerWithLag[]> {
  const found: ConsumerWithLag[] = []
  const chosen = sql<ConsumerRow>`SELECT ${COLUMNS} FROM sluice.consumers WHERE ${name === undefined ? sql`true` : sql`name = ${name}`}`
  await readRows(db, withLag(chosen, name === undefined ? 'many' : 'one'), signal, (row) => void found.push(row))
  return found
}

/**
 * Creates a consumer.
 * @returns why it was not created: the name exists, or MAX_CONSUMERS exist. Those that are created at the same time may exceed this
 *   limit: it is there to stop programs, and a lock would let them wait for each other
 */
export async function insertConsumer(
  db: Database,
  name: string,
  { epoch, xid, n }: Position,
): Promise<ConsumerRow | 'exists' | 'full'> {
  const { rows } = await sql<{ [Name in keyof ConsumerRow]: ConsumerRow[Name] | null } & { is_full: boolean }>`
    WITH created AS (
      INSERT INTO sluice.consumers (name, epoch, xid, n)
      SELECT ${name}, ${epoch}::integer, ${xid}::xid8, ${n}::bigint
      WHERE (SELECT count(*) FROM sluice.consumers) < ${MAX_CONSUMERS}
      ON CONFLICT (name) DO NOTHING
      RETURNING ${COLUMNS}, ${synchronousTransaction}
    )
    SELECT created.*, count >= ${MAX_CONSUMERS} AS is_full
    FROM (SELECT count(*) FROM sluice.consumers) AS all_consumers LEFT JOIN created ON true`.execute(db)
  const [{ is_full, ...row }] = rows as [(typeof rows)[number]]
  if (row.name !== null) return row as ConsumerRow
  return is_full ? 'full' : 'exists'
}

/** Moves a consumer. @returns undefined if no consumer has this name and one of these revisions */
export async function updateConsumer(
  db: Database,
  name: string,
  { epoch, xid, n }: Position,
  revisions: Revisions,
): Promise<ConsumerRow | undefined> {
  const { rows } = await sql<ConsumerRow>`
    UPDATE sluice.consumers
    SET epoch = ${epoch}::integer, xid = ${xid}::xid8, n = ${n}::bigint, revision = gen_random_uuid(), updated_at = now()
    WHERE ${isOf(name, revisions)}
    RETURNING ${COLUMNS}, ${synchronousTransaction}`.execute(db)
  return rows[0]
}

/** @returns false if no consumer has this name and one of these revisions */
export async function deleteConsumer(db: Database, name: string, revisions: Revisions): Promise<boolean> {
  const { rows } = await sql`
    DELETE FROM sluice.consumers WHERE ${isOf(name, revisions)} RETURNING ${synchronousTransaction}`.execute(db)
  return rows.length > 0
}

/** The comparison with the revision and the change are one statement: of two clients with the same revision, one changes it. */
const isOf = (name: string, revisions: Revisions) =>
  revisions === 'any' ? sql`name = ${name}` : sql`name = ${name} AND revision = ANY (${revisions}::uuid[])`
