import { withClient } from './connect.ts'
import { copyIn } from './copy-in.ts'
import { PackedRows } from './packed-rows.ts'
import type { Rows } from './row.ts'
import type { Database } from './schema.ts'
import { NOTHING_SEEN, type Seen } from './seen.ts'
import { SYNCHRONOUS_TRANSACTION } from './session.ts'
import { TUPLE_COLUMNS, writeTuple } from './tuple.ts'

// The number first: where there is a standby it says so (25006), and the epoch that it is no place to ask.
const SQL = `
  SELECT pg_current_xact_id(), sluice.current_epoch($1, $2), ${SYNCHRONOUS_TRANSACTION};
  COPY sluice.records (${TUPLE_COLUMNS}) FROM STDIN (FORMAT binary)`

/**
 * Stores rows that are all new, for less than an INSERT costs the server: it writes a page of them at a time, and prepares for
 * no conflict. With one identity that is there already, or one value that PostgreSQL refuses, none is stored.
 * @param db made by `connect`
 * @param base first of the flush's places: see `insertRecords`
 * @param seen the rows come after this
 */
export async function copyRecords(db: Database, rows: Rows, base: number, seen: Seen = NOTHING_SEEN): Promise<Seen> {
  // Several statements have no parameters (PostgreSQL manual, 54.2.2.1 Multiple Statements in a Simple Query).
  const text = SQL.replace('$1', String(seen.epoch)).replace('$2', `'${seen.xid}'`)
  const [xid, epoch] = await withClient(db, SQL, (client) =>
    copyIn(client, text, (message, [, text]) => {
      const epoch = Number(text)
      if (rows instanceof PackedRows) return rows.writeTo(message, epoch, base)
      let place = base
      for (const row of rows) writeTuple(message, row, epoch, place++)
    }),
  )
  return { epoch: Number(epoch), xid: xid as string }
}
