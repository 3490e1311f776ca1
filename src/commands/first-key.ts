import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, relative } from 'node:path'
import { hashKey, SCOPES } from '../access/key.ts'
import { ensureBootstrapKey, issueKey } from '../access/manage-keys.ts'
import type { Config } from '../config.ts'
import { selectKeys } from '../data/keys.ts'
import type { Database } from '../postgres/tables.ts'

/**
 * Makes sure that there is a first key. A key that it creates is written to `file`, which only the owner can read.
 * @returns a shell expression for the key; the key itself is never printed, because output is often kept
 */
export async function ensureFirstKey(
  db: Database,
  config: Config,
  { embedded, file }: { embedded: boolean; file: string },
): Promise<string> {
  if (config.SLUICE_BOOTSTRAP_KEY !== undefined) {
    await ensureBootstrapKey(db, config.SLUICE_BOOTSTRAP_KEY)
    return '$SLUICE_BOOTSTRAP_KEY'
  }
  const kept = await readFile(file, 'utf8').catch(() => undefined)
  const keys = await selectKeys(db)
  const works = keys.some(
    (key) => key.revoked_at === null && kept !== undefined && key.hash.toString('hex') === hashKey(kept.trim()),
  )
  if (!works) {
    // If the database is not the embedded one and already has keys, no key is added.
    if (!embedded && keys.length > 0) return '$SLUICE_KEY'
    const { token } = await issueKey(db, { name: 'local', scopes: SCOPES, sourcePrefixes: [], expiresAt: null })
    await mkdir(dirname(file), { recursive: true })
    // A new file, because an existing one would keep its permissions.
    const made = `${file}.${process.pid}`
    await rm(made, { force: true })
    await writeFile(made, `${token}\n`, { mode: 0o600, flag: 'wx' })
    await rename(made, file)
  }
  return `$(cat '${relative(process.cwd(), file).replaceAll("'", `'\\''`)}')`
}
