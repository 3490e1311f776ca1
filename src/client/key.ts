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
  if (SLUICE_KEY !== undefined && SLUICE_KEY !== '')
    return { token: checkToken(SLUICE_KEY, 'SLUICE_KEY'), shell: '$SLUICE_KEY' }

  const path = keyFileOf(databaseUrl())
  const file = relative(process.cwd(), path)
  const token = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT')
      throw new Error(
        `The key file ${file} cannot be read (${error.code}). Make it readable for this user, or set SLUICE_KEY`,
      )
    throw new Error(
      `There is no API key in ${file}. Set SLUICE_KEY, or create the key: run npm start with the same DATABASE_URL`,
    )
  })
  return { token: checkToken(token, file), shell: `$(cat '${file.replaceAll("'", `'\\''`)}')` }
}

/**
 * Removes white space at the ends, such as a line break. Without this check, fetch would repeat the whole key in its error.
 * @throws if the text cannot be a key
 */
function checkToken(text: string, where: string): string {
  const token = text.trim()
  if (/^[\w.~+/=-]+$/.test(token)) return token
  const what = /^Bearer\s/i.test(token)
    ? 'begins with Bearer'
    : 'contains a character that no key has, such as a quote or a space'
  throw new Error(`${where} ${what}: it must be the key alone, as "sluice keys create" prints it`)
}

/** As `npm start` reads it. @throws Error with a sentence if it is wrong: the key of another database would store records there */
function databaseUrl(): string | undefined {
  const { DATABASE_URL } = process.env
  if (DATABASE_URL === undefined || DATABASE_URL === '') return undefined
  try {
    return checkDatabaseUrl(DATABASE_URL, process.env)
  } catch (error) {
    throw new Error(`DATABASE_URL ${(error as Error).message}`)
  }
}
