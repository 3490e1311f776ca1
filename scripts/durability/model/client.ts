import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Answer {
  status: number
  headers: IncomingMessage['headers']
  text: string
}

/** No answer, or not all of it: nobody knows what became of the request. */
export interface Lost {
  reason: string
  /** It was given up because nothing came for so long. */
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

/** One connection at a time, kept alive, as most clients have it. */
export class Client {
  #port = 0
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 })

  constructor() {
    this.#agent.createConnection = () => connect(this.#port, '127.0.0.1')
  }

  async send(message: Message): Promise<Answer | Lost> {
    const { method, path, port, headers, pieces, pauseMs, patienceMs } = message
    this.#port = port
    const signal = AbortSignal.timeout(patienceMs)
    try {
      // Agents keep idle connections by host and port.
      const sent = request({ agent: this.#agent, method, path, host: '127.0.0.1', port, headers, signal })
      // What fails after the answer began, such as the rest of a body that nobody wants, is no loss.
      const failure = once(sent, 'error').then(([error]) => error)
      const answered = once(sent, 'response') as Promise<[IncomingMessage]>
      answered.catch(() => {})
      void writePieces()
      const response = await Promise.race([answered, failure.then((error) => Promise.reject(error))])
      const [{ statusCode, headers: told }] = response as [IncomingMessage]
      return { status: statusCode as number, headers: told, text: await text((response as [IncomingMessage])[0]) }

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

export const isLost = (answer: Answer | Lost): answer is Lost => 'reason' in answer
