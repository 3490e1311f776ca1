import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'

export interface Usage {
  /** Current resident memory, in bytes. */
  rss: number
  /** Processor time since the start, in microseconds. */
  cpu: number
}

/** Listens, sends the port to the bench, and exits when the bench disconnects. The reply to every message is the usage. */
export async function serve(app: FastifyInstance): Promise<void> {
  await app.listen({ host: '127.0.0.1', port: 0 })
  process.once('disconnect', async () => {
    await app.close()
    process.exit()
  })
  process.on('message', () => {
    const { user, system } = process.cpuUsage()
    process.send?.({ rss: process.memoryUsage.rss(), cpu: user + system } satisfies Usage)
  })
  process.send?.((app.server.address() as AddressInfo).port)
}
