import { type Insertable, Kysely, PostgresDialect } from 'kysely'
import { Pool } from 'pg'
import type { Tables } from '../../../src/postgres/tables.ts'
import { bareServer, type RecordInput } from './bare.ts'
import { serve } from './serve.ts'

/** The default of the driver. Each connection runs one INSERT at a time. */
const CONNECTIONS = 10

// Naive: each request is one INSERT in a transaction of its own.
const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: CONNECTIONS })
const db = new Kysely<{ 'rival.records': Tables['sluice.records'] }>({ dialect: new PostgresDialect({ pool }) })

let n = 0

const app = bareServer(async (records) => {
  const rows = records.map(toRow)
  const created = await db
    .insertInto('rival.records')
    .values(rows)
    .onConflict((conflict) => conflict.columns(['source', 'id']).doNothing())
    .returning('n')
    .execute()
  const stored = new Set(created.map((row) => row.n))
  return rows.map((row) => stored.has(row.n))
})
app.addHook('onClose', () => db.destroy())
await serve(app)

function toRow({ source, type, id, time, subject, data }: RecordInput): Insertable<Tables['sluice.records']> {
  return {
    epoch: 1,
    n: String(n++),
    source,
    type,
    id: id as string,
    time: time ?? null,
    subject: subject ?? null,
    data: JSON.stringify(data),
  }
}
