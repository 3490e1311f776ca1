import { withClient } from '../postgres/connect.ts'
import { copyIn } from '../postgres/copy-in.ts'
import { PackedRows } from '../postgres/packed-rows.ts'
import type { Rows } from '../postgres/row.ts'
import { SYNCHRONOUS_TRANSACTION } from '../postgres/session.ts'
import type { Database } from '../postgres/tables.ts'
import { TUPLE_COLUMNS, writeTuple } from '../postgres/tuple.ts'
import { NOTHING_SEEN, type Seen } from './seen.ts'

// The transaction id comes first: on a standby it fails with 25006 ("try again"), while current_epoch() would fail with 55000,
// which looks like a bug.
const SQL = `
  SELECT pg_current_xact_id(), sluice.current_epoch($1, $2), ${SYNCHRONOUS_TRANSACTION};
  COPY sluice.records (${TUPLE_COLUMNS}) FROM STDIN (FORMAT binary)`

/**
 * Stores rows that are all new. This costs the server less than an INSERT, because COPY writes a page of rows at a time and does
 * not prepare for conflicts. If one identity is already stored, or PostgreSQL rejects one value, nothing is stored.
 * @param db made by `connect`
 * @param base `n` of the first row: see `insertRecords`
 * @param seen the rows get positions after this one
 */
export async function copyRecords(db: Database, rows: Rows, base: number, seen: Seen = NOTHING_SEEN): Promise<Seen> {
  // A query of several statements cannot have parameters (PostgreSQL manual, 54.2.2.1 Multiple Statements in a Simple Query).
  const text = SQL.replace('$1', String(seen.epoch)).replace('$2', `'${seen.xid}'`)
  const [xid, epoch] = await withClient(db, SQL, (client) =>
    copyIn(client, text, (message, [, text]) => {
      const epoch = Number(text)
      if (rows instanceof PackedRows) return rows.writeTo(message, epoch, base)
      let n = base
      for (const row of rows) writeTuple(message, row, epoch, n++)
    }),
  )
  // The SELECT always returns a transaction id.
  return { epoch: Number(epoch), xid: xid as string }
}
