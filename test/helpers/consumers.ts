import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Test } from 'tap'
import { sendCut, sendProblem, startStub } from './proxy.ts'

interface Stored {
  offset: string
  etag: string
  overtakenAt: string | null
}

/** What happens to a PUT: nothing, it is refused, it gets no response, its response is lost before or after the offset is stored, or is cut. */
type Fault = 'none' | 'unavailable' | 'silence' | 'lost' | 'stored, but lost' | 'stored, but cut'

/** A server with consumers that loses responses when the test wants. Its ETags are weak, as behind a proxy that compresses. */
export interface ConsumerStub {
  url: string
  consumers: Map<string, Stored>
  /** The offsets that were stored, in order. */
  commits: string[]
  /** Moves a consumer, as another process does. */
  move(name: string, offset: string): void
  /** What happens to the next PUTs. */
  faults: Fault[]
}

/** @param feed answers what is not about consumers */
export async function startConsumers(
  t: Test,
  feed: (request: IncomingMessage, response: ServerResponse, body: Buffer) => unknown,
): Promise<ConsumerStub> {
  const consumers = new Map<string, Stored>()
  const commits: string[] = []
  const faults: Fault[] = []
  let revision = 0
  const move = (name: string, offset: string) => {
    consumers.set(name, { offset, etag: `"${++revision}"`, overtakenAt: null })
  }
  const url = await startStub(t, (request, response, body) => {
    const name = /^\/v1\/consumers\/(.*)$/.exec(request.url ?? '')?.[1]
    if (name === undefined) return feed(request, response, body)
    return request.method === 'PUT' ? put(name, request, response, body) : get(name, response)
  })
  return { url, consumers, commits, faults, move }

  function get(name: string, response: ServerResponse, status = 200): unknown {
    const stored = consumers.get(name)
    if (stored === undefined)
      return sendProblem(response, 404, { code: 'not_found', detail: 'There is none.', retryable: false })
    const { etag, ...members } = stored
    return response
      .writeHead(status, { 'content-type': 'application/json', etag: `W/${etag}` })
      .end(JSON.stringify({ name, ...members }))
  }

  function put(name: string, { headers }: IncomingMessage, response: ServerResponse, body: Buffer): unknown {
    const fault = faults.shift()
    if (fault === 'silence') return undefined
    if (fault === 'lost') return response.destroy()
    if (fault === 'unavailable')
      return sendProblem(response, 503, { detail: 'Away.', retryable: true }, { 'retry-after': '0' })
    const stored = consumers.get(name)
    const isFulfilled =
      headers['if-none-match'] === '*' ? stored === undefined : headers['if-match'] === (stored?.etag ?? 'none')
    if (!isFulfilled)
      return sendProblem(response, 412, { code: 'precondition_failed', detail: 'It was moved.', retryable: false })
    const { offset } = JSON.parse(body.toString())
    commits.push(offset)
    move(name, offset)
    if (fault === 'stored, but cut')
      return sendCut(response, 200, { 'content-type': 'application/json', etag: 'W/"0"' }, `{"name":"${name}","off`)
    return fault === 'stored, but lost' ? response.destroy() : get(name, response, stored === undefined ? 201 : 200)
  }
}
