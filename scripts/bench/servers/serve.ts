import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'

/** Listens, tells the bench on which port, and ends when the bench does. */
export async function serve(app: FastifyInstance): Promise<void> {
  await app.listen({ host: '127.0.0.1', port: 0 })
  process.once('disconnect', async () => {
    await app.close()
    process.exit()
  })
  process.send?.((app.server.address() as AddressInfo).port)
}
