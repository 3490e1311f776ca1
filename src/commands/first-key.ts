import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, relative } from 'node:path'
import type { Config } from '../config.ts'
import { selectKeys } from '../data/keys.ts'
import type { Database } from '../data/schema.ts'
import { ensureBootstrapKey, issueKey } from '../operate/issue-key.ts'
import { hashKey, SCOPES } from '../operate/keys.ts'

/**
 * Makes sure there is a key to begin with; one that it makes is left in `file`, for its owner alone.
 * @returns a shell expression for it: the key itself is never printed, since what is printed is often kept
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
    // A database that others use has keys of its own: none is added unasked.
    if (!embedded && keys.length > 0) return '$SLUICE_KEY'
    const { token } = await issueKey(db, { name: 'local', scopes: SCOPES, sourcePrefixes: [], expiresAt: null })
    await mkdir(dirname(file), { recursive: true })
    // Made anew: a file that is there would keep the permissions that it has.
    const made = `${file}.${process.pid}`
    await rm(made, { force: true })
    await writeFile(made, `${token}\n`, { mode: 0o600, flag: 'wx' })
    await rename(made, file)
  }
  return `$(cat '${relative(process.cwd(), file).replaceAll("'", `'\\''`)}')`
}
