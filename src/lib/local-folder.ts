import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Folder for the files of a local run, in the folder of the program. Git ignores it. */
export const LOCAL_FOLDER = fileURLToPath(new URL('../../.sluice', import.meta.url))

/** `npm start` writes the first key to this file. */
export const KEY_FILE = join(LOCAL_FOLDER, 'key')
