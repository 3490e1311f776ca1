import { type AddressInfo, connect } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Answer } from './app.ts'

/** Makes the app listen on a free loopback port, unless it listens already. @returns the port */
export async function listen(app: FastifyInstance): Promise<number> {
  if (app.server.listening) return (app.server.address() as AddressInfo).port
  await app.listen({ host: '127.0.0.1', port: 0 })
  return (app.server.address() as AddressInfo).port
}

/** Sends bytes unchanged over a new connection. Resolves with the first complete response, and closes the connection. */
export function exchange(port: number, ...pieces: (string | Buffer)[]): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    let received = Buffer.alloc(0)
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk])
      const response = parse(received)
      if (response === undefined) return
      resolve(response)
      socket.destroy()
    })
    socket.on('error', reject)
    socket.on('close', () => reject(new Error(`closed after: ${received.toString('latin1')}`)))
    for (const piece of pieces) socket.write(piece)
  })
}

/** The head of a request. */
export const head = (method: string, path: string, headers: Record<string, string> = {}): string =>
  [`${method} ${path} HTTP/1.1`, 'Host: sluice', ...Object.entries(headers).map(([k, v]) => `${k}: ${v}`), '', ''].join(
    '\r\n',
  )

/** A body in the chunked transfer coding (RFC 9112, section 7.1). */
export function* chunked(...chunks: Buffer[]): Generator<Buffer> {
  for (const chunk of chunks) {
    yield Buffer.concat([Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n')])
  }
  yield Buffer.from('0\r\n\r\n')
}

function parse(received: Buffer): Answer | undefined {
  const end = received.indexOf('\r\n\r\n')
  if (end === -1) return undefined
  const [start = '', ...lines] = received.toString('latin1', 0, end).split('\r\n')
  const headers = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
  )
  const body = received.subarray(end + 4)
  if (body.length < Number(headers['content-length'] ?? 0)) return undefined
  const text = body.toString()
  const isJson = headers['content-type']?.includes('json') === true
  return { status: Number(start.split(' ')[1]), headers, text, json: isJson ? JSON.parse(text) : undefined }
}
