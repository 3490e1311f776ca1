import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'

/**
 * Listens, tells the bench on which port, and ends when the bench does. Whenever it is asked, it tells how much memory
 * it has.
 */
export async function serve(app: FastifyInstance): Promise<void> {
  await app.listen({ host: '127.0.0.1', port: 0 })
  process.once('disconnect', async () => {
    await app.close()
    process.exit()
  })
  process.on('message', () => process.send?.(process.memoryUsage.rss()))
  process.send?.((app.server.address() as AddressInfo).port)
}
