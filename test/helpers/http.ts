import { Agent, type ClientRequest, type IncomingMessage, request as open } from 'node:http'
import type { Test } from 'tap'
import type { Answer } from './app.ts'

export interface HttpAnswer extends Answer {
  /** The body as it came. */
  bytes: Buffer
}

export interface Client {
  /** A request whose body the test writes, piece by piece. `answer` rejects when the answer breaks off. */
  open(
    method: string,
    path: string,
    headers?: Record<string, string>,
  ): { request: ClientRequest; answer: Promise<HttpAnswer> }
  /** A request without a body, whose answer the test reads as it likes. */
  read(path: string, headers?: Record<string, string>): Promise<IncomingMessage>
  /** A request with this body; without one where there is none. */
  send(
    method: string,
    path: string,
    headers?: Record<string, string>,
    body?: string | Buffer | Iterable<Buffer> | AsyncIterable<Buffer>,
  ): Promise<HttpAnswer>
}

/** Speaks to a server through one real connection, kept alive from request to request until `t` is over. */
export function openClient(t: Test, port: number, key: string): Client {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())

  const begin = (method: string, path: string, headers: Record<string, string> = {}) => {
    const authorization = `Bearer ${key}`
    const request = open({ host: '127.0.0.1', port, method, path, agent, headers: { authorization, ...headers } })
    const response = new Promise<IncomingMessage>((resolve, reject) => {
      request.on('response', resolve).on('error', reject)
    })
    return { request, response }
  }

  const client: Client = {
    open(method, path, headers) {
      const { request, response } = begin(method, path, headers)
      const answer = response.then(readAnswer)
      // Some tests break the connection before they look at it.
      answer.catch(() => {})
      return { request, answer }
    },
    read(path, headers) {
      const { request, response } = begin('GET', path, headers)
      request.end()
      return response
    },
    async send(method, path, headers = {}, body) {
      const { request, answer } = client.open(method, path, headers)
      if (body === undefined || typeof body === 'string' || Buffer.isBuffer(body)) request.end(body)
      else await write(request, body)
      return answer
    },
  }
  return client
}

/** Writes at the pace of the server. Stops when the request fails: its answer tells why. */
export async function write(request: ClientRequest, body: Iterable<Buffer> | AsyncIterable<Buffer>): Promise<void> {
  for await (const chunk of body) {
    if (request.destroyed) return
    if (!request.write(chunk)) {
      await new Promise<void>((resolve) => {
        const goOn = () => {
          request.off('drain', goOn).off('close', goOn)
          resolve()
        }
        request.on('drain', goOn).on('close', goOn)
      })
    }
  }
  request.end()
}

async function readAnswer(response: IncomingMessage): Promise<HttpAnswer> {
  const bytes = Buffer.concat(await response.toArray())
  const text = bytes.toString()
  const isJson = /[/+]json\b/.test(String(response.headers['content-type'])) && !response.headers['content-encoding']
  const json = isJson ? JSON.parse(text) : undefined
  return { status: response.statusCode as number, headers: response.headers, bytes, text, json }
}
