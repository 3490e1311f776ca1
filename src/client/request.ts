import { readText, type Server, send } from './server.ts'

/**
 * How long to wait for the head of a response. More than a long-poll takes, and an outage of the database in which the server waits. If the
 * network drops all packets, nothing else would end the request.
 */
const RESPONSE_MS = 90_000

interface Answer {
  status: number
  headers: Headers
  text: string
}

/**
 * Sends one request, and reads the whole response.
 * @param stop ends the request
 * @throws TryAgain, also if it is stopped; Refused; NotSluice
 */
export async function request(server: Server, path: string, init: RequestInit, stop?: AbortSignal): Promise<Answer> {
  // A signal of its own: fetch would add a listener to `stop` for each request.
  const end = new AbortController()
  const onStop = () => end.abort(stop?.reason)
  if (stop?.aborted) onStop()
  stop?.addEventListener('abort', onStop)
  const timer = setTimeout(() => end.abort(new Error(`No response for ${RESPONSE_MS / 1000} seconds`)), RESPONSE_MS)
  try {
    const response = await send(server, path, { ...init, signal: end.signal })
    clearTimeout(timer)
    const { status, headers } = response
    return { status, headers, text: await readText(response, server.url) }
  } finally {
    clearTimeout(timer)
    stop?.removeEventListener('abort', onStop)
  }
}
