import { start } from '../processes.ts'
import { startServer } from '../servers/start.ts'
import type { Run } from '../table.ts'

/** Starts a server with an empty database, a process that sends and one that follows. `stop` stops all three. */
export async function startAll({ database, options }: Run) {
  await database.empty()
  const [server, sender, followers] = await Promise.all([
    startServer('ours', database, options.profile),
    start('feed/sender.ts'),
    start('feed/followers.ts'),
  ])
  const stop = async () => {
    await Promise.all([sender, followers].map((child) => child.stop()))
    await server.child.stop()
  }
  return { server, sender, followers, stop }
}
