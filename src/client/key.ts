import { readFile } from 'node:fs/promises'
import { relative } from 'node:path'
import { KEY_FILE } from '../lib/local-folder.ts'

/**
 * SLUICE_KEY, else the key of `npm start`. Not an argument: those are seen by everyone on the machine, and kept by shells.
 * @returns the key, and a shell expression for it that may be printed
 */
export async function findKey(): Promise<{ token: string; shell: string }> {
  const { SLUICE_KEY } = process.env
  if (SLUICE_KEY !== undefined && SLUICE_KEY !== '') return { token: SLUICE_KEY, shell: '$SLUICE_KEY' }

  const file = relative(process.cwd(), KEY_FILE)
  const token = await readFile(KEY_FILE, 'utf8').catch(() => {
    throw new Error(`There is no key. Set SLUICE_KEY, or run npm start, which leaves one in ${file}`)
  })
  return { token: token.trim(), shell: `$(cat '${file.replaceAll("'", `'\\''`)}')` }
}
