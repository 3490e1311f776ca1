import { type Kysely, sql } from 'kysely'

export interface RecordFields {
  source?: string
  id?: string
  type?: string
  /** How long ago it was received, in seconds. */
  age?: number
  /** The time attribute. */
  time?: string
  /** Size of the payload, in bytes. */
  size?: number
  extensions?: Record<string, string | number | boolean>
}

let count = 0

/** Inserts records like the API, in one transaction. `db` is connected as the owner. */
export async function addRecords(db: Kysely<unknown>, records: readonly RecordFields[]): Promise<void> {
  const rows = records.map(
    ({ source = 'shop', id, type = 'x', age = 0, time = null, size = 2, extensions = null }) => ({
      ...{ n: ++count, source, id: id ?? `${count}`, type, age, time, extensions },
      data: size === 2 ? '{}' : JSON.stringify('x'.repeat(size - 2)),
    }),
  )
  await sql`
    INSERT INTO sluice.records (epoch, n, source, id, type, received_at, "time", data, extensions)
    SELECT sluice.current_epoch(), n, source, id, type, now() - make_interval(secs => age), "time", data, extensions
    FROM json_to_recordset(${JSON.stringify(rows)}::json)
      AS r (n bigint, source text, id text, type text, age double precision, "time" timestamptz, data json, extensions jsonb)`.execute(
    db,
  )
}

export const many = (count: number, record: (index: number) => RecordFields = () => ({})): RecordFields[] =>
  Array.from({ length: count }, (_, index) => record(index))

/** The ids of all records, in the order of the feed. */
export async function ids(db: Kysely<unknown>): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`SELECT id FROM sluice.records ORDER BY epoch, xid, n`.execute(db)
  return rows.map(({ id }) => id)
}
