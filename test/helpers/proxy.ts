import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

/** Handles the requests of a stub. */
type Handler = (request: IncomingMessage, response: ServerResponse, body: Buffer) => unknown

/** Starts a stub of a server. It answers probes, and `handle` answers all other requests. @returns its URL */
export async function startStub(t: Test, handle: Handler): Promise<string> {
  const server = createServer(async (request, response) => {
    // A client that is killed closes its connection.
    response.on('error', () => {})
    if (request.url === '/healthz') return response.end('ok')
    const body = await request.toArray().then(Buffer.concat, () => undefined)
    if (body !== undefined) await handle(request, response, body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    return new Promise<unknown>((resolve) => server.close(resolve))
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** Forwards a request with its headers. @returns a function that sends the complete response */
export function forward(to: string, from: IncomingMessage, body: Buffer): Promise<(response: ServerResponse) => void> {
  return new Promise((resolve, reject) => {
    const { method, headers } = from
    const onward = request(`${to}${from.url}`, { method, headers }, async (received) => {
      const content = Buffer.concat(await received.toArray())
      resolve((response) => {
        response.writeHead(received.statusCode ?? 500, received.headers)
        response.end(content)
      })
    })
    onward.on('error', reject).end(body)
  })
}

/** Sends a body that is cut, without a sign that it is, like a proxy that speaks HTTP/1.0. */
export function sendCut(response: ServerResponse, status: number, headers: Record<string, string>, body: string): void {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  response.socket?.end(`HTTP/1.0 ${status} X\r\n${lines.join('')}\r\n${body}`)
}

/** Sends a problem document like Sluice. */
export function sendProblem(
  response: ServerResponse,
  status: number,
  members: Record<string, unknown>,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/problem+json', ...headers })
  response.end(JSON.stringify({ title: '', outcome: 'not_written', ...members }))
}
