import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

/** What stands in for a server, or before one. */
export type Handler = (request: IncomingMessage, response: ServerResponse, body: Buffer) => unknown

/** A server of this test: it answers probes, and `handle` the rest. @returns its URL */
export async function startStub(t: Test, handle: Handler): Promise<string> {
  const server = createServer(async (request, response) => {
    // Whoever is killed hangs up.
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

/** Passes a request on, with its headers, and gives the whole answer back; it is not sent yet. */
export function forward(to: string, from: IncomingMessage, body: Buffer): Promise<(response: ServerResponse) => void> {
  return new Promise((resolve, reject) => {
    const { method, headers } = from
    const onward = request(`${to}${from.url}`, { method, headers }, async (answer) => {
      const content = Buffer.concat(await answer.toArray())
      resolve((response) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers)
        response.end(content)
      })
    })
    onward.on('error', reject).end(body)
  })
}

/** A problem document as Sluice writes it. */
export function sendProblem(
  response: ServerResponse,
  status: number,
  members: Record<string, unknown>,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/problem+json', ...headers })
  response.end(JSON.stringify({ title: '', outcome: 'not_written', ...members }))
}
