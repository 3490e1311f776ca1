import { chmod, mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { openEmbedded } from '../../db/embedded/index.ts'
import { SCOPES } from '../../src/access/key.ts'
import { issueKey } from '../../src/access/manage-keys.ts'
import { buildApp } from '../../src/app.ts'
import { withConnection } from '../../src/commands/database.ts'
import { loadConfig } from '../../src/config.ts'
import { migrate } from '../../src/postgres/migrate.ts'
import { provision } from '../../src/postgres/roles.ts'
import type { Target } from './verify.ts'

/** Starts an embedded PostgreSQL in a temporary folder, and the API in this process. */
export async function openLocal(): Promise<Target> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-persistence-'))
  // If this runs as root, PostgreSQL runs as another user, which must be able to enter the folder.
  await chmod(folder, 0o711)
  const home = join(folder, '.sluice')
  let server = await openEmbedded(home, provision)
  const key = await withConnection(server.ownerUrl, async (db) => {
    await migrate(db)
    return issueKey(db, { name: 'persistence', scopes: SCOPES, sourcePrefixes: [], expiresAt: null })
  })
  const config = loadConfig({ DATABASE_URL: server.apiUrl, PORT: '0' })
  const app = await buildApp(config, pino({ level: 'silent' }))
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as AddressInfo

  async function volume(): Promise<string> {
    const { dev, ino } = await stat(join(home, 'postgres', 'data'))
    return `folder ${dev}:${ino}`
  }

  async function restart(): Promise<void> {
    const pidFile = await readFile(join(home, 'postgres', 'data', 'postmaster.pid'), 'utf8')
    process.kill(Number.parseInt(pidFile, 10), 'SIGKILL')
    const killed = server
    server = await openEmbedded(home, provision)
    await killed.release()
  }

  async function close(): Promise<void> {
    await app.close()
    await server.release()
    await rm(folder, { recursive: true, force: true })
  }

  return { volume, restart, close, url: `http://127.0.0.1:${port}`, key: key.token }
}
