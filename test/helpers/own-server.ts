import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { type Embedded, openEmbedded } from '../../db/embedded/index.ts'

/** Nothing in a test has to survive a power cut. */
export const FAST = { fsync: 'off', full_page_writes: 'off', shared_buffers: '16MB' }

/** A server that only this test uses, for what would disturb the others; stopped and removed when `t` is over. */
export async function openOwnServer(
  t: Test,
  settings: Record<string, string> = {},
): Promise<Embedded & { folder: string }> {
  const folder = await ownFolder(t)
  const server = await openEmbedded(folder, { settings: { ...FAST, ...settings } })
  t.teardown(() => server.release())
  return { ...server, folder }
}

/** Not t.testdir(), which is removed before the teardowns run, from under a running server. */
export async function ownFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-'))
  // For root's tests: the user that runs the server has to get in.
  await chmod(folder, 0o711)
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return join(folder, '.sluice')
}
