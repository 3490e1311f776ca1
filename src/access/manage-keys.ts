import { insertKey, type KeyRow, selectKeys, setRevoked } from '../data/keys.ts'
import { toRfc3339 } from '../lib/pg-time.ts'
import { sqlstateOf } from '../postgres/sqlstate.ts'
import type { Database } from '../postgres/tables.ts'
import { Problem } from '../problems.ts'
import type { KeyDocument } from '../schemas/keys.ts'
import { generateKey, hashKey, SCOPES, type Scope } from './key.ts'

export interface KeyRequest {
  name: string
  scopes: readonly Scope[]
  sourcePrefixes: readonly string[]
  /** Absent: KEY_RECORDS_PER_SECOND. */
  recordsPerSecond?: number | undefined
  expiresAt: Date | null
}

/** Creates a key. Only its hash is stored, so the token is returned only here. */
export async function issueKey(
  db: Database,
  request: KeyRequest,
  { id, token } = generateKey(),
): Promise<{ id: string; token: string; row: KeyRow }> {
  // 256 random bits: no other key has the same hash.
  const row = (await store(db, id, token, request)) as KeyRow
  return { id, token, row }
}

/** Creates a key with this id and token. @returns the key as listKeys describes it, and its token @throws Problem forbidden */
export async function createKey(
  db: Database,
  request: KeyRequest,
  secret: { id: string; token: string },
): Promise<KeyDocument & { token: string }> {
  const { token, row } = await issueKey(db, request, secret).catch(explainRefusal)
  return { ...describe(row), token }
}

/** All keys, including revoked and expired ones, oldest first, without their hashes. */
export async function listKeys(db: Database): Promise<KeyDocument[]> {
  return (await selectKeys(db)).map(describe)
}

/** Revoking a key again keeps the time of the first revocation. @returns false if the key does not exist @throws Problem forbidden */
export function revokeKey(db: Database, id: string): Promise<boolean> {
  return setRevoked(db, id).catch(explainRefusal)
}

/** An operator may take the privilege to change keys from the role of the API: scripts/without-kubernetes.md, "Roles". */
function explainRefusal(error: unknown): never {
  if (sqlstateOf(error) !== '42501') throw error
  const detail =
    'The role of this server in the database may not change API keys. Use "sluice keys" as the owner of the database.'
  throw new Problem('forbidden', detail, { cause: error })
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
): Promise<KeyRow | undefined> {
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

const time = (text: string | null) => (text === null ? null : toRfc3339(text))

export function stateOf({ expires_at, revoked_at }: KeyRow): KeyDocument['state'] {
  const expiresAt = time(expires_at)
  const isExpired = expiresAt !== null && new Date(expiresAt).getTime() <= Date.now()
  return revoked_at !== null ? 'revoked' : isExpired ? 'expired' : 'active'
}

function describe(row: KeyRow): KeyDocument {
  return {
    id: row.id,
    name: row.name,
    scopes: row.scopes as Scope[],
    sourcePrefixes: row.source_prefixes,
    recordsPerSecond: row.records_per_second,
    expiresAt: time(row.expires_at),
    createdAt: toRfc3339(row.created_at),
    revokedAt: time(row.revoked_at),
    state: stateOf(row),
  }
}
