import { type Kysely, sql } from 'kysely'

export interface Given {
  source?: string
  id?: string
  type?: string
  /** When it was received, so many seconds ago. */
  age?: number
  /** What the client said. */
  time?: string
  /** Bytes of payload. */
  size?: number
}

let made = 0

/** Puts records where the API would, one transaction for all of them; `db` is the owner's. */
export async function give(db: Kysely<unknown>, records: readonly Given[]): Promise<void> {
  const rows = records.map(({ source = 'shop', id, type = 'x', age = 0, time = null, size = 2 }) => ({
    ...{ n: ++made, source, id: id ?? `${made}`, type, age, time },
    data: size === 2 ? '{}' : JSON.stringify('x'.repeat(size - 2)),
  }))
  await sql`
    INSERT INTO sluice.records (epoch, n, source, id, type, received_at, "time", data)
    SELECT sluice.current_epoch(), n, source, id, type, now() - make_interval(secs => age), "time", data
    FROM json_to_recordset(${JSON.stringify(rows)}::json)
      AS r (n bigint, source text, id text, type text, age double precision, "time" timestamptz, data json)`.execute(db)
}

export const many = (count: number, record: (index: number) => Given = () => ({})): Given[] =>
  Array.from({ length: count }, (_, index) => record(index))

/** The ids of what is there, in the order of the feed. */
export async function ids(db: Kysely<unknown>): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`SELECT id FROM sluice.records ORDER BY epoch, xid, n`.execute(db)
  return rows.map(({ id }) => id)
}
