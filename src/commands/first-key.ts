import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, relative } from 'node:path'
import { generateKey, hashKey, SCOPES } from '../access/key.ts'
import { ensureBootstrapKey, issueKey, stateOf } from '../access/manage-keys.ts'
import type { Config } from '../config.ts'
import { lockKeys, selectKeys } from '../data/keys.ts'
import type { Database } from '../postgres/tables.ts'

interface Options {
  embedded: boolean
  /** The key file of this database. */
  file: string
  warn: (text: string) => void
}

/** A shell expression for a key that only the user knows. */
const OTHER_KEY = '$SLUICE_KEY'
const CREATE = 'create one with: sluice keys create --name local --scope ingest --scope read'

/**
 * Makes sure that there is a first key. A key that it creates is written to `file`, which only the owner can read.
 * @returns a shell expression for the key; the key itself is never printed, because output is often kept
 * @throws Error with a sentence if the file cannot be read or written; then no key is created
 */
export async function ensureFirstKey(db: Database, config: Config, options: Options): Promise<string> {
  if (config.SLUICE_BOOTSTRAP_KEY !== undefined) {
    await ensureBootstrapKey(db, config.SLUICE_BOOTSTRAP_KEY)
    return '$SLUICE_BOOTSTRAP_KEY'
  }
  const undo: (() => Promise<void>)[] = []
  try {
    return await db.transaction().execute(async (trx) => {
      // Of two first starts at the same time, the second one finds the key of the first one.
      await lockKeys(trx)
      return findOrCreate(trx, options, undo)
    })
  } catch (error) {
    for (const step of undo) await step()
    throw error
  }
}

/** @param undo gets what must be done if the transaction fails */
async function findOrCreate(
  db: Database,
  { embedded, file, warn }: Options,
  undo: (() => Promise<void>)[],
): Promise<string> {
  const shown = relative(process.cwd(), file)
  const kept = await readKey(file, shown)
  const keys = await selectKeys(db)
  const own = keys.find(({ hash }) => kept !== undefined && hash.toString('hex') === hashKey(kept))
  // Only the embedded database gets a key although it has others: nobody else uses it.
  const needsKey = embedded || keys.length === 0
  if (own !== undefined && stateOf(own) !== 'active') {
    warn(`The key in ${shown} is ${stateOf(own)}. Use another key, or ${CREATE}`)
    return OTHER_KEY
  }
  if (own === undefined && !needsKey) {
    if (kept !== undefined)
      warn(`The key in ${shown} is unknown to this database, which has others. Use one of them, or ${CREATE}`)
    return OTHER_KEY
  }
  if (own === undefined) {
    if (kept !== undefined) {
      const suffix = `.${hashKey(kept).slice(0, 8)}`
      await rename(file, `${file}${suffix}`)
      warn(`The key in ${shown} is unknown to this database. It is now in ${shown}${suffix}, and there is a new key`)
    }
    const secret = generateKey()
    // The file first: a key that nobody can read would stay valid.
    await writeKey(file, shown, secret.token)
    undo.push(() => rm(file, { force: true }))
    await issueKey(db, { name: 'local', scopes: SCOPES, sourcePrefixes: [], expiresAt: null }, secret)
  }
  return `$(cat '${shown.replaceAll("'", `'\\''`)}')`
}

/** @returns undefined if there is no file */
async function readKey(file: string, shown: string): Promise<string | undefined> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw new Error(
      `The key file ${shown} cannot be read (${error.code}). Make it readable for this user, or set ${INSTEAD}`,
    )
  })
  return text?.trim()
}

const INSTEAD = 'SLUICE_BOOTSTRAP_KEY to a key of your own'

/** Never overwrites a file. */
async function writeKey(file: string, shown: string, token: string): Promise<void> {
  try {
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, `${token}\n`, { mode: 0o600, flag: 'wx' })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new Error(
      `The first key cannot be written to ${shown} (${code}), so none was created. Let this user write to that folder, or set ${INSTEAD}`,
    )
  }
}
