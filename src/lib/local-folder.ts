import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** What a local run keeps, in the folder of the program and ignored by git. */
export const LOCAL_FOLDER = fileURLToPath(new URL('../../.sluice', import.meta.url))

/** Where `npm start` leaves the first key, for whoever may read the folder. */
export const KEY_FILE = join(LOCAL_FOLDER, 'key')
