import { hash, randomBytes } from 'node:crypto'

export type Scope = 'ingest' | 'read' | 'admin'
export const SCOPES: readonly Scope[] = ['ingest', 'read', 'admin']

/** An API key, without its secret. */
export interface Key {
  id: string
  name: string
  scopes: readonly string[]
  /** The sources that it may use (lib/source-prefix.ts); empty: all. */
  sourcePrefixes: readonly string[]
  /** null: KEY_RECORDS_PER_SECOND. */
  recordsPerSecond: number | null
  expiresAt: Date | null
  revokedAt: Date | null
}

/** A new key: `sluice_`, its id, and 256 random bits. Scanners for leaked secrets can find it by the prefix. */
export function generateKey(): { id: string; token: string } {
  const id = randomBytes(6).toString('hex')
  return { id, token: `sluice_${id}_${randomBytes(32).toString('base64url')}` }
}

/** SHA-256 of the whole key, in hexadecimal. Sluice stores only this form. */
export const hashKey = (token: string): string => hash('sha256', token, 'hex')
