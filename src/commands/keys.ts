import { SCOPES, type Scope } from '../access/key.ts'
import { idInKey } from '../access/key-hints.ts'
import { issueKey, listKeys as listAll, revokeKey } from '../access/manage-keys.ts'
import { loadConfig } from '../config.ts'
import { nearest } from '../lib/nearest.ts'
import { printable } from '../lib/printable.ts'
import { prefixFault } from '../lib/source-prefix.ts'
import type { Database } from '../postgres/tables.ts'
import { openDatabase, withConnection } from './database.ts'

interface CreateOptions {
  name: string
  scope: string[]
  sourcePrefix: string[]
  rate?: string
  expires?: string
}

/** `sluice keys create`: prints the key on stdout. It cannot be shown again. */
export async function createKey({ name, scope, sourcePrefix, rate, expires }: CreateOptions): Promise<void> {
  const unknown = scope.filter((one) => !SCOPES.includes(one as Scope))
  if (unknown.length > 0) throw new Error(unknownScope(unknown))
  for (const prefix of sourcePrefix) {
    const fault = prefixFault(prefix)
    if (fault !== undefined) throw new Error(`--source-prefix "${prefix}" ${fault}`)
  }
  const recordsPerSecond = rate === undefined ? undefined : readRate(rate)
  const expiresAt = expires === undefined ? null : readExpiry(expires)

  const { id, token } = await withDatabase((db) =>
    issueKey(db, { name, scopes: scope as Scope[], sourcePrefixes: sourcePrefix, recordsPerSecond, expiresAt }),
  )
  await print(`${token}\n`).catch(async (cause) => {
    await withDatabase((db) => revokeKey(db, id))
    throw new Error('The key could not be printed, so it was revoked', { cause })
  })
  console.error(
    `Key ${id} (${scope.join(', ')})${expiresAt === null ? '' : `, until ${expiresAt.toISOString()}`}. It is not shown again, so save it now.`,
  )
}

/** `sluice keys list`: all keys, without their secrets. */
export async function listKeys({ json }: { json?: boolean }): Promise<void> {
  const keys = (await withDatabase(listAll)).map((key) => ({
    id: key.id,
    name: key.name,
    scopes: key.scopes.join(' '),
    sourcePrefixes: key.sourcePrefixes.join(' '),
    recordsPerSecond: key.recordsPerSecond ?? '',
    createdAt: key.createdAt,
    expiresAt: key.expiresAt ?? '',
    state: key.state,
  }))
  // A name may contain control characters.
  if (json === true) console.log(printable(JSON.stringify(keys)))
  else
    console.table(
      keys.map((key) => ({ ...key, name: printable(key.name), sourcePrefixes: printable(key.sourcePrefixes) })),
    )
}

/** `sluice keys revoke`: all instances refuse the key within two seconds. */
export async function revoke(id: string): Promise<void> {
  const inner = idInKey(id)
  if (inner !== undefined)
    throw new Error(
      `This is a key, not its id, and your shell history may contain it. To revoke it: sluice keys revoke ${inner}`,
    )
  const found = await withDatabase((db) => revokeKey(db, id))
  // A longer text may be a key, which must not be repeated.
  const shown = id.length <= 24 ? `key ${id}` : 'key with this id'
  if (!found) throw new Error(`There is no ${shown}. "sluice keys list" shows all keys`)
  console.error(`Key ${id} is revoked.`)
}

const ALIASES: Record<string, Scope> = { write: 'ingest', post: 'ingest', send: 'ingest', get: 'read', all: 'admin' }

function unknownScope(names: string[]): string {
  const meant = nearest(names[0] as string, SCOPES, ALIASES)
  const hint = names.some((name) => name.includes(','))
    ? ': separate them with spaces, as in --scope ingest read'
    : meant === undefined
      ? ''
      : ` (did you mean ${meant}?)`
  return `There is no scope ${names.join(', ')}. The scopes are ${SCOPES.join(', ')}${hint}`
}

/** Rejects if stdout does not take the text, such as a file on a full disk. */
const print = (text: string) =>
  new Promise<void>((resolve, reject) => {
    process.stdout.write(text, (error) => (error ? reject(error) : resolve()))
  })

async function withDatabase<T>(work: (db: Database) => Promise<T>): Promise<T> {
  const database = await openDatabase(loadConfig())
  try {
    return await withConnection(database.api, work)
  } finally {
    await database.release()
  }
}

/** Reads a number of records per second. */
function readRate(text: string): number {
  const rate = Number(text)
  if (Number.isInteger(rate) && rate >= 1 && rate <= 1_000_000) return rate
  throw new Error(`--rate ${text} is not a whole number of records per second from 1 to 1000000`)
}

/** Reads a time (RFC 3339 or a date), or a duration from now, such as 90d or 12h. */
function readExpiry(text: string): Date {
  const [, count, unit] = /^(\d+)([dhm])$/.exec(text) ?? []
  const milliseconds = { d: 86_400_000, h: 3_600_000, m: 60_000 }[unit ?? '']
  const time = milliseconds === undefined ? new Date(text) : new Date(Date.now() + Number(count) * milliseconds)
  if (Number.isNaN(time.getTime()))
    throw new Error(`--expires ${text} is neither a time like 2027-01-31T12:00:00Z nor a duration like 90d, 12h or 30m`)
  if (time.getTime() <= Date.now()) throw new Error(`--expires ${text} is in the past`)
  return time
}
