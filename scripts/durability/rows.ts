import { sql } from 'kysely'
import { withConnection } from '../../src/commands/database.ts'
import { encodeOffset } from '../../src/lib/offset.ts'
import { type Fields, recognise, type Stored } from './stored.ts'

interface StoredRow extends Record<Exclude<keyof Fields, 'extensions'>, string | null> {
  epoch: number
  xid: string
  n: string
  extensions: string | null
}

/** Returns the records of a source, in the order of the feed, each compared with what was sent. */
export async function rowsOf(url: string, source: string): Promise<Stored[]> {
  const { rows } = await withConnection(url, (db) =>
    sql<StoredRow>`
      SELECT epoch, xid::text, n::text, id, type, subject, dataschema, datacontenttype, extensions::text, data::text,
             to_char("time" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS "time",
             translate(encode(data_bytes, 'base64'), E'\n', '') AS data_base64
      FROM sluice.records WHERE source = ${source} ORDER BY records.epoch, records.xid, records.n`.execute(db),
  )
  return rows.map(({ epoch, xid, n, extensions, ...fields }) => {
    const there = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null))
    const whole = { ...there, extensions: extensions === null ? {} : JSON.parse(extensions) } as unknown as Fields
    return recognise(whole, encodeOffset({ epoch, xid, n: Number(n) }))
  })
}
