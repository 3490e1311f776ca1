import { Agent, type ClientRequest, type IncomingMessage, request as open } from 'node:http'
import type { Test } from 'tap'
import type { Answer } from './app.ts'

export interface HttpAnswer extends Answer {
  /** The body as it was received. */
  bytes: Buffer
}

export interface Client {
  /** Begins a request. The test writes its body. `answer` rejects if the response breaks off. */
  open(
    method: string,
    path: string,
    headers?: Record<string, string>,
  ): { request: ClientRequest; answer: Promise<HttpAnswer> }
  /** Sends a request without a body. The test reads the response. */
  read(path: string, headers?: Record<string, string>): Promise<IncomingMessage>
  /** Sends a request, with a body if one is given, and reads the response. */
  send(
    method: string,
    path: string,
    headers?: Record<string, string>,
    body?: string | Buffer | Iterable<Buffer> | AsyncIterable<Buffer>,
  ): Promise<HttpAnswer>
}

/** A client with one real connection, which is kept open between requests until `t` ends. */
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
      // Some tests break the connection before they await the response.
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

/** Writes a body at the pace of the server. Stops if the request fails; the response has the reason. */
export async function write(request: ClientRequest, body: Iterable<Buffer> | AsyncIterable<Buffer>): Promise<void> {
  for await (const chunk of body) {
    if (request.destroyed) return
    if (!request.write(chunk)) {
      await new Promise<void>((resolve) => {
        const proceed = () => {
          request.off('drain', proceed).off('close', proceed)
          resolve()
        }
        request.on('drain', proceed).on('close', proceed)
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
