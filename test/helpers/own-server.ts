import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { type Embedded, openEmbedded } from '../../db/embedded/index.ts'
import { migrate } from '../../src/postgres/migrate.ts'
import { provision } from '../../src/postgres/roles.ts'
import { connect } from './connect.ts'
import type { TestDatabase } from './postgres.ts'

/** Settings for speed. The data of a test need not survive a power cut. */
export const FAST = { fsync: 'off', full_page_writes: 'off', shared_buffers: '16MB' }

/** A server for one test, which would disturb other tests on the shared one. It is stopped and deleted when `t` ends. */
export async function openOwnServer(
  t: Test,
  settings: Record<string, string> = {},
): Promise<Embedded & { folder: string }> {
  const folder = await ownFolder(t)
  const server = await openEmbedded(folder, provision, { settings: { ...FAST, ...settings } })
  t.teardown(() => server.release())
  return { ...server, folder }
}

/** A migrated database on a server for one test, without settings that break a guarantee. */
export async function createSafeDatabase(t: Test): Promise<TestDatabase> {
  const server = await openOwnServer(t, { fsync: 'on', full_page_writes: 'on' })
  const owner = connect(server.ownerUrl)
  await migrate(owner).finally(() => owner.destroy())
  return { ...server, name: new URL(server.apiUrl).pathname.slice(1) }
}

/** A new folder. t.testdir() is deleted before the teardowns run, while the server still uses it. */
export async function ownFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-'))
  // If the tests run as root, the server runs as another user, who must be able to enter.
  await chmod(folder, 0o711)
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return join(folder, '.sluice')
}
