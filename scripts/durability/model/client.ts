import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'

export interface HttpResponse {
  status: number
  headers: IncomingMessage['headers']
  text: string
}

/** The response was missing or incomplete, so the outcome of the request is unknown. */
interface Lost {
  reason: string
  /** The client gave up, because the response took too long. */
  late: boolean
}

export interface Message {
  method: 'GET' | 'POST'
  path: string
  port: number
  headers: Record<string, string>
  pieces: readonly Buffer[]
  pauseMs: number
  patienceMs: number
}

/** Uses one connection at a time and keeps it alive, like most clients. */
export class Client {
  #port = 0
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })

  constructor() {
    this.#agent.createConnection = () => connect(this.#port, '127.0.0.1')
  }

  async send(message: Message): Promise<HttpResponse | Lost> {
    const { method, path, port, headers, pieces, pauseMs, patienceMs } = message
    this.#port = port
    const signal = AbortSignal.timeout(patienceMs)
    try {
      // Agents keep idle connections by host and port.
      const sent = request({ agent: this.#agent, method, path, host: '127.0.0.1', port, headers, signal })
      // Errors after the response has begun do not matter: the server may not read the rest of a body that it refuses.
      const failure = once(sent, 'error').then(([error]) => error)
      const responded = once(sent, 'response') as Promise<[IncomingMessage]>
      responded.catch(() => {})
      void writePieces()
      const [response] = (await Promise.race([responded, failure.then((error) => Promise.reject(error))])) as [
        IncomingMessage,
      ]
      return { status: response.statusCode as number, headers: response.headers, text: await text(response) }

      async function writePieces(): Promise<void> {
        for (const [index, piece] of pieces.entries()) {
          if (index > 0) await sleep(pauseMs)
          if (piece.length > 0) sent.write(piece)
        }
        sent.end()
      }
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      return { reason: code ?? message, late: signal.aborted }
    }
  }

  close(): void {
    this.#agent.destroy()
  }
}

export const isLost = (response: HttpResponse | Lost): response is Lost => 'reason' in response
