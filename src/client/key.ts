import { readFile } from 'node:fs/promises'
import { relative } from 'node:path'
import { checkDatabaseUrl } from '../lib/database-url.ts'
import { keyFileOf } from '../lib/local-folder.ts'

/**
 * Finds the API key: SLUICE_KEY, or else the key of `npm start` with the same DATABASE_URL. It is not an argument, because all
 * users of the machine can see arguments, and shells keep them.
 * @returns the key, and a shell expression for it, which may be printed
 */
export async function findKey(): Promise<{ token: string; shell: string }> {
  const { SLUICE_KEY } = process.env
  if (SLUICE_KEY !== undefined && SLUICE_KEY !== '') return { token: SLUICE_KEY, shell: '$SLUICE_KEY' }

  const path = keyFileOf(databaseUrl())
  const file = relative(process.cwd(), path)
  const token = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw new Error(`The key file ${file} cannot be read (${error.code}). Set SLUICE_KEY`)
    throw new Error(
      `There is no API key in ${file}. Set SLUICE_KEY, or create the key: run npm start with the same DATABASE_URL`,
    )
  })
  return { token: token.trim(), shell: `$(cat '${file.replaceAll("'", `'\\''`)}')` }
}

/** As `npm start` reads it. @throws Error with a sentence if it is wrong: the key of another database would store records there */
function databaseUrl(): string | undefined {
  const { DATABASE_URL } = process.env
  if (DATABASE_URL === undefined || DATABASE_URL === '') return undefined
  try {
    return checkDatabaseUrl(DATABASE_URL)
  } catch (error) {
    throw new Error(`DATABASE_URL ${(error as Error).message}`)
  }
}
