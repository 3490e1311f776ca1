import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { type JobState, selectJobs } from '../../src/data/jobs.ts'
import { connect as connectAs } from '../../src/postgres/connect.ts'
import { type Command, runCommand } from './command.ts'
import { connect } from './connect.ts'
import { folderOf } from './load.ts'
import { createDatabase, type TestDatabase } from './postgres.ts'

export async function start(t: Test) {
  const database = await createDatabase(t)
  const [owner, root] = [connect(database.ownerUrl), connect(database.superUrl, 2)]
  t.teardown(() => Promise.all([owner.destroy(), root.destroy()]))
  return { database, owner, root }
}

let files = 0

export async function write(t: Test, policies: string): Promise<string> {
  const path = join(folderOf(t), `${++files}.json`)
  await writeFile(path, policies)
  return path
}

/** Runs `sluice maintain` to its end. */
export async function maintain(t: Test, database: TestDatabase, policies: string, args: string[] = []) {
  const all = ['maintain', '--policies', await write(t, policies), ...args]
  const { exit, logs, stderr } = runCommand(t, all, { DATABASE_URL: database.maintenanceUrl })
  return { code: await exit, logs: logs(), stderr: stderr() }
}

/** Starts `sluice maintain`, and resolves after its first batch. */
export async function begin(t: Test, database: TestDatabase, policies: string): Promise<Command> {
  const env = { DATABASE_URL: database.maintenanceUrl, LOG_LEVEL: 'debug' }
  const command = runCommand(t, ['maintain', '--policies', await write(t, policies)], env)
  await command.log(({ msg }) => msg === 'processed a batch')
  return command
}

/** The recorded job runs, which /metrics shows. */
export async function jobs({ ownerUrl }: TestDatabase): Promise<JobState[]> {
  const db = connectAs({ url: ownerUrl, name: 'test', connections: 1, statementTimeoutMs: 0, onError: () => {} })
  return selectJobs(db).finally(() => db.destroy())
}
