import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'

/** What a server has taken of the machine. */
export interface Usage {
  /** Memory, now, in bytes. */
  rss: number
  /** Processor time since its start, in microseconds. */
  cpu: number
}

/** Listens, tells the bench on which port, and ends when the bench does. Whenever it is asked, it tells its usage. */
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
