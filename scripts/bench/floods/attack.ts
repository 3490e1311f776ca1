import { type OutgoingHttpHeaders, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** Whom a flood is sent to, and the key of those that have one. */
export interface Target {
  port: number
  key: string
}

/** Begins it, and returns at once; it goes on until this process ends. */
export type Attack = (target: Target) => void

/** What the flood got: answers by their status, and broken connections by their error code. */
export const answers: Record<string, number> = {}

function count(what: string): void {
  answers[what] = (answers[what] ?? 0) + 1
}

const HOST = '127.0.0.1'
const STATUS_LINE = 'HTTP/1.1 '
/** "HTTP/1.1 201" */
const STATUS_LENGTH = STATUS_LINE.length + 3
/** Before a flood that failed goes on: the server may be gone. */
const PAUSE_MS = 100

/** The bytes of a request. */
export function toBytes(method: string, path: string, headers: Record<string, string | number>, body = ''): Buffer {
  const lines = Object.entries({ host: HOST, ...headers }).map(([name, value]) => `${name}: ${value}\r\n`)
  return Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`)
}

/** Opens a connection that counts the answers on it. What is written before it is open is sent then. */
export function dial({ port }: Target, onAnswer: (socket: Socket) => void = () => {}): Socket {
  const socket = connect({ host: HOST, port, noDelay: true })
  // The end of the piece before: a status line may come in two.
  let rest = Buffer.alloc(0)
  socket.on('data', (piece) => {
    const bytes = Buffer.concat([rest, piece])
    let end = 0
    for (let at = bytes.indexOf(STATUS_LINE); at !== -1; at = bytes.indexOf(STATUS_LINE, at + 1)) {
      if (at + STATUS_LENGTH > bytes.length) break
      end = at + STATUS_LENGTH
      count(bytes.toString('latin1', at + STATUS_LINE.length, end))
      onAnswer(socket)
    }
    rest = Buffer.from(bytes.subarray(Math.max(end, bytes.length - STATUS_LENGTH + 1)))
  })
  socket.on('error', (error) => count((error as NodeJS.ErrnoException).code ?? error.message))
  return socket
}

/** Sends a request again and again, each when the answer to the one before was read to its end. */
export async function repeat(
  target: Target,
  method: string,
  path: string,
  headers: OutgoingHttpHeaders,
  body = Buffer.alloc(0),
) {
  for (;;) {
    try {
      await send(target, method, path, headers, body)
    } catch (error) {
      count((error as NodeJS.ErrnoException).code ?? (error as Error).message)
      await sleep(PAUSE_MS)
    }
  }
}

function send(
  { port, key }: Target,
  method: string,
  path: string,
  headers: OutgoingHttpHeaders,
  body: Buffer,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const authorization = `Bearer ${key}`
    const all = { authorization, ...headers, ...(body.length > 0 ? { 'content-length': body.length } : {}) }
    request({ host: HOST, port, method, path, headers: all, agent: false }, (response) => {
      count(String(response.statusCode))
      response.on('error', reject).on('close', resolve).resume()
    })
      .on('error', reject)
      .end(body)
  })
}

/** Calls `work` this many times, with the index of each call. */
export function times(count: number, work: (index: number) => void): void {
  for (let index = 0; index < count; index++) work(index)
}
