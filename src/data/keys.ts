import { sql } from 'kysely'
import type { Database } from '../postgres/tables.ts'

export interface KeyRow {
  id: string
  name: string
  hash: Buffer
  scopes: string[]
  source_prefixes: string[]
  records_per_second: number | null
  created_at: string
  expires_at: string | null
  revoked_at: string | null
}

/** Until the end of the transaction, nobody else can create or change a key. Reading continues. */
export async function lockKeys(trx: Database): Promise<void> {
  await sql`LOCK TABLE sluice.keys IN SHARE ROW EXCLUSIVE MODE`.execute(trx)
}

/** All keys, including revoked and expired ones, oldest first. */
export async function selectKeys(db: Database): Promise<KeyRow[]> {
  return db.selectFrom('sluice.keys').selectAll().orderBy('created_at').orderBy('id').execute()
}

/** @returns undefined if a key with this hash exists already; that key is not changed */
export async function insertKey(
  db: Database,
  key: Pick<KeyRow, 'id' | 'name' | 'hash' | 'scopes' | 'source_prefixes' | 'records_per_second'> & {
    expires_at: Date | null
  },
): Promise<KeyRow | undefined> {
  return db
    .insertInto('sluice.keys')
    .values(key)
    .onConflict((conflict) => conflict.column('hash').doNothing())
    .returningAll()
    .executeTakeFirst()
}

/** Revokes a key now, unless it is revoked already. @returns false if the key does not exist */
export async function setRevoked(db: Database, id: string): Promise<boolean> {
  const result = await db
    .updateTable('sluice.keys')
    .set({ revoked_at: sql`coalesce(revoked_at, now())` })
    .where('id', '=', id)
    .executeTakeFirst()
  return result.numUpdatedRows === 1n
}
