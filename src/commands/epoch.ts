import { loadConfig } from '../config.ts'
import { beginEpoch, MAX_EPOCH } from '../data/epochs.ts'
import { decodeOffset } from '../lib/offset.ts'
import { quoted } from '../lib/quoted.ts'
import { openCommandLog } from './command-log.ts'
import { openDatabase, withConnection } from './database.ts'

/** `sluice epoch begin`. DATABASE_URL must be the owner's. */
export async function runBegin({ after }: { after?: string }): Promise<void> {
  const last = after === undefined ? undefined : readEpoch(after)
  const config = loadConfig()
  const database = await openDatabase(config)
  try {
    const epoch = await withConnection(database.owner, (db) => beginEpoch(db, last), config.CONNECT_WAIT_SECONDS)
    openCommandLog(config.LOG_LEVEL).info({ epoch }, 'a new epoch has begun: new records sort after all earlier ones')
  } finally {
    await database.release()
  }
}

function readEpoch(cursor: string): number {
  const position = decodeOffset(cursor)
  if (position === undefined)
    throw new Error(
      `--after ${quoted(cursor)} is not a cursor, or was damaged: copy it from the request that got 409 offset_ahead`,
    )
  // Anyone can forge a cursor. A very high epoch would leave none for later starts of the database.
  if (position.epoch >= MAX_EPOCH)
    throw new Error(
      `--after ${quoted(cursor)} is not a cursor from this service: copy it from the request that got 409 offset_ahead`,
    )
  return position.epoch
}
