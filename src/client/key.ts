import { readFile } from 'node:fs/promises'
import { relative } from 'node:path'
import { KEY_FILE } from '../lib/local-folder.ts'

/**
 * Finds the API key: SLUICE_KEY, or else the key of `npm start`. It is not an argument, because all users of the machine can see
 * arguments, and shells keep them.
 * @returns the key, and a shell expression for it, which may be printed
 */
export async function findKey(): Promise<{ token: string; shell: string }> {
  const { SLUICE_KEY } = process.env
  if (SLUICE_KEY !== undefined && SLUICE_KEY !== '') return { token: SLUICE_KEY, shell: '$SLUICE_KEY' }

  const file = relative(process.cwd(), KEY_FILE)
  const token = await readFile(KEY_FILE, 'utf8').catch(() => {
    throw new Error(`There is no API key. Set SLUICE_KEY, or run npm start, which writes one to ${file}`)
  })
  return { token: token.trim(), shell: `$(cat '${file.replaceAll("'", `'\\''`)}')` }
}
