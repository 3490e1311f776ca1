import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import type { Test } from 'tap'

export interface Gate {
  /** The URL of the server behind the gate, with the port of the gate. */
  through(url: string): string
  /** How many connections it has reset so far. */
  refused(): number
}

/** Opens a port in front of the server of a URL that resets the first connections, like a network policy that is not enforced yet. */
export async function openGate(t: Test, server: string, refuse: number): Promise<Gate> {
  let seen = 0
  const { port, hostname } = new URL(server)
  const gate = createServer((socket) => {
    socket.on('error', () => {})
    if (seen++ < refuse) return socket.resetAndDestroy()
    const onward = connect(Number(port), hostname)
    onward.on('error', () => socket.destroy())
    socket.pipe(onward).pipe(socket)
  })
  await once(gate.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => gate.close())
  const own = String((gate.address() as AddressInfo).port)
  return {
    through: (url) => Object.assign(new URL(url), { port: own }).href,
    refused: () => Math.min(seen, refuse),
  }
}
