import { insertKey } from '../data/keys.ts'
import type { Database } from '../data/schema.ts'
import { generateKey, hashKey, SCOPES, type Scope } from './keys.ts'

export interface KeyRequest {
  name: string
  scopes: readonly Scope[]
  sourcePrefixes: readonly string[]
  /** Absent: KEY_RECORDS_PER_SECOND. */
  recordsPerSecond?: number | undefined
  expiresAt: Date | null
}

/** Creates a key. Only its hash is stored, so the token is returned only here. */
export async function issueKey(db: Database, request: KeyRequest): Promise<{ id: string; token: string }> {
  const key = generateKey()
  await store(db, key.id, key.token, request)
  return key
}

/** Makes sure that this token is a key with all scopes. A key that was revoked stays revoked. */
export async function ensureBootstrapKey(db: Database, token: string): Promise<void> {
  const id = `bootstrap-${hashKey(token).slice(0, 8)}`
  await store(db, id, token, { name: 'bootstrap', scopes: SCOPES, sourcePrefixes: [], expiresAt: null })
}

function store(
  db: Database,
  id: string,
  token: string,
  { name, scopes, sourcePrefixes, recordsPerSecond, expiresAt }: KeyRequest,
): Promise<boolean> {
  return insertKey(db, {
    id,
    name,
    hash: Buffer.from(hashKey(token), 'hex'),
    scopes: [...scopes],
    source_prefixes: [...sourcePrefixes],
    records_per_second: recordsPerSecond ?? null,
    expires_at: expiresAt,
  })
}
