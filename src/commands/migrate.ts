import { loadConfig } from '../config.ts'
import { migrate } from '../postgres/migrate.ts'
import { openCommandLog } from './command-log.ts'
import { openDatabase, withConnection } from './database.ts'

/** `sluice migrate`: brings the schema up to date. DATABASE_URL must be the owner's. */
export async function runMigrate(): Promise<void> {
  const config = loadConfig()
  const logger = openCommandLog(config.LOG_LEVEL)
  const database = await openDatabase(config)
  try {
    const migrations = await withConnection(database.owner, migrate, config.CONNECT_WAIT_SECONDS)
    logger.info({ migrations }, migrations.length > 0 ? 'migrated' : 'nothing to migrate')
  } finally {
    await database.release()
  }
}
