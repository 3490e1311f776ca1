import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

type Direction = 'up' | 'down'

/** A proxy that can cut connections after any byte. Listens on loopback only. */
export interface Cutter {
  port: number
  /**
   * Cuts a connection after it has forwarded this many more bytes in this direction.
   * @param choose gets the number of connections, and returns the index of the one to cut
   * @param reset reset the connection instead of closing it
   */
  cut(bytes: number, direction: Direction, reset: boolean, choose: (connections: number) => number): void
  cutAll(): void
  close(): void
}

interface Link {
  client: Socket
  server: Socket
  cut: { left: number; direction: Direction; reset: boolean } | undefined
  /** It is being cut: further bytes are dropped. */
  over: boolean
}

export async function openCutter(target: number): Promise<Cutter> {
  const links: Link[] = []
  const sockets = new Set<Socket>()
  const listener = createServer({ allowHalfOpen: true }, accept).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  return { port: (listener.address() as AddressInfo).port, cut, cutAll, close }

  function accept(client: Socket): void {
    const server = connect({ port: target, host: '127.0.0.1', allowHalfOpen: true })
    const link: Link = { client, server, cut: undefined, over: false }
    links.push(link)
    for (const socket of [client, server]) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        end(link, false)
      })
    }
    pass(link, 'up', client, server)
    pass(link, 'down', server, client)
  }

  function pass(link: Link, direction: Direction, from: Socket, to: Socket): void {
    from.on('data', (bytes) => {
      const { cut } = link
      if (link.over) return
      if (cut?.direction === direction) {
        if (bytes.length >= cut.left) {
          link.over = true
          to.write(bytes.subarray(0, cut.left), () => end(link, cut.reset))
          return
        }
        cut.left -= bytes.length
      }
      if (!to.write(bytes)) {
        from.pause()
        to.once('drain', () => from.resume())
      }
    })
    from.on('end', () => to.end())
  }

  function cut(bytes: number, direction: Direction, reset: boolean, choose: (connections: number) => number): void {
    const link = links[choose(links.length)]
    if (link !== undefined) link.cut = { left: bytes, direction, reset }
  }

  function cutAll(): void {
    for (const link of [...links]) end(link, true)
  }

  function end(link: Link, reset: boolean): void {
    const at = links.indexOf(link)
    if (at === -1) return
    links.splice(at, 1)
    for (const socket of [link.client, link.server]) {
      // Node.js cannot reset a socket that is shutting down: the socket leaks, and the process spins at its end instead of exiting.
      if (reset && !socket.writableEnded) socket.resetAndDestroy()
      else if (reset) socket.destroy()
      else socket.destroySoon()
    }
  }

  function close(): void {
    listener.close()
    // Also those that destroySoon() keeps open because the peer does not read.
    for (const socket of sockets) socket.destroy()
  }
}
