import { sql } from 'kysely'
import { withConnection } from '../../../src/commands/database.ts'
import { encodeOffset } from '../../../src/lib/offset.ts'
import type { Postgres } from '../postgres.ts'
import { GUILTY_TYPE } from './bad-records.ts'
import { type Content, digestOf } from './contents.ts'
import { identityOf } from './history.ts'
import type { StoredRow } from './verdict.ts'

/** Empties the tables, and adds a constraint that rejects bad records. */
export async function prepareTable({ superUrl }: Postgres): Promise<void> {
  await withConnection(superUrl, async (db) => {
    await sql`TRUNCATE sluice.records, sluice.rollups`.execute(db)
    await sql`ALTER TABLE sluice.records DROP CONSTRAINT IF EXISTS model_guilty`.execute(db)
    await sql`ALTER TABLE sluice.records ADD CONSTRAINT model_guilty CHECK (type <> ${sql.lit(GUILTY_TYPE)})`.execute(
      db,
    )
  })
}

/** Reads all rows, in feed order. Nothing may write meanwhile. */
export async function readRows({ superUrl }: Postgres): Promise<StoredRow[]> {
  return withConnection(superUrl, async (db) => {
    const { rows } = await sql<Record<string, string | null>>`
      SELECT source, id, type, subject, "time"::text, dataschema, datacontenttype, extensions::text, data::text,
             translate(encode(data_bytes, 'base64'), E'\n', '') AS base64, epoch::text, xid::text, n::text
      FROM sluice.records ORDER BY records.epoch, records.xid, records.n`.execute(db)
    return rows.map(({ source, id, time, extensions, epoch, xid, n, ...rest }) => {
      const utc = time == null ? undefined : `${time.slice(0, 10)}T${time.slice(11, -3)}Z`
      const content = { ...rest, extensions: extensions == null ? {} : JSON.parse(extensions) }
      return {
        identity: identityOf(source as string, id as string),
        cursor: encodeOffset({ epoch: Number(epoch), xid: xid as string, n: Number(n) }),
        digest: digestOf(content as Content, utc),
      }
    })
  })
}
