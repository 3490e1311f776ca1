import { readFile } from 'node:fs/promises'
import { relative } from 'node:path'
import { keyFileOf } from '../lib/local-folder.ts'

/**
 * Finds the API key: SLUICE_KEY, or else the key of `npm start` with the same DATABASE_URL. It is not an argument, because all users of the machine can see
 * arguments, and shells keep them.
 * @returns the key, and a shell expression for it, which may be printed
 */
export async function findKey(): Promise<{ token: string; shell: string }> {
  const { SLUICE_KEY } = process.env
  if (SLUICE_KEY !== undefined && SLUICE_KEY !== '') return { token: SLUICE_KEY, shell: '$SLUICE_KEY' }

  const { DATABASE_URL } = process.env
  const path = keyFileOf(DATABASE_URL !== undefined && URL.canParse(DATABASE_URL) ? DATABASE_URL : undefined)
  const file = relative(process.cwd(), path)
  const token = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw new Error(`The key file ${file} cannot be read (${error.code}). Set SLUICE_KEY`)
    throw new Error(
      `There is no API key in ${file}. Set SLUICE_KEY, or run npm start, which writes one to this file, with the same DATABASE_URL`,
    )
  })
  return { token: token.trim(), shell: `$(cat '${file.replaceAll("'", `'\\''`)}')` }
}
