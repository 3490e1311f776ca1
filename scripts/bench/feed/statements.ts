import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { MessageReader } from '../../durability/messages.ts'

/** Counts the statements of a server that connects through it. The statistics of PostgreSQL are up to ten seconds late. */
interface StatementCounter {
  /** The URL of the database, through the counter. */
  url: string
  statements(): number
  close(): void
}

export async function countStatements(databaseUrl: string): Promise<StatementCounter> {
  const { hostname, port } = new URL(databaseUrl)
  let statements = 0
  const open = new Set<Socket>()
  const server = createServer((client) => {
    const database = connect({ host: hostname, port: Number(port || 5432) })
    const messages = new MessageReader('client')
    client.on('data', (bytes) => {
      // Query, and Execute for a statement with parameters.
      for (const { type } of messages.read(bytes)) if (type === 'Q' || type === 'E') statements++
    })
    client.pipe(database).pipe(client)
    for (const socket of [client, database]) {
      open.add(socket)
      socket.on('error', () => {})
      socket.once('close', () => open.delete(socket))
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const own = { hostname: '127.0.0.1', port: String((server.address() as AddressInfo).port) }
  return {
    url: Object.assign(new URL(databaseUrl), own).href,
    statements: () => statements,
    close() {
      server.close()
      for (const socket of open) socket.destroy()
    },
  }
}
