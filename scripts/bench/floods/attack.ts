import { connect, type Socket } from 'node:net'

/** The server that a flood attacks, and the API key for those requests of the flood that have a key. */
export interface Target {
  port: number
  key: string
}

/** How a flood behaves. It continues until its process ends: after each response, and after each closed connection, it tries again. */
export interface Attack {
  /** Number of connections that are open at the same time. */
  connections: number
  /** Number of requests that wait for a response on each connection. Default: 1. */
  pipelined?: number
  /** The bytes of one request, or of its beginning. */
  request: (key: string) => readonly Buffer[]
  /** The last bytes of each request. They are sent only after the response. */
  withheld?: Buffer
  /** The request never ends. The response to it is a refusal, and the connection is closed after it. */
  endless?: true
  /** Further bytes of the request, sent every second. */
  drip?: Buffer
  /** The client closes each connection after this time. */
  leaveMs?: number
  /** The client reads only the status of a successful response. */
  unread?: true
}

/** What a flood has sent so far, and the outcomes. */
export interface Tally {
  connections: number
  requests: number
  /** Requests without a response, on open connections. */
  waiting: number
  /** Number of responses by status, and of lost connections by error code. */
  ends: Record<string, number>
}

export const tally: Tally = { connections: 0, requests: 0, waiting: 0, ends: {} }

const HOST = '127.0.0.1'
const STATUS_LINE = 'HTTP/1.1 '
/** "HTTP/1.1 201" */
const STATUS_LENGTH = STATUS_LINE.length + 3
/** Pause after a refusal or a closed connection. Without it, the flood would take too much of the processors that it shares. */
const PAUSE_MS = 250

/** Returns the bytes of a request. */
export function toBytes(method: string, path: string, headers: Record<string, string | number>, body = ''): Buffer {
  const lines = Object.entries({ host: HOST, ...headers }).map(([name, value]) => `${name}: ${value}\r\n`)
  return Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`)
}

/** Starts the attack, and returns at once. */
export function begin(attack: Attack, { port, key }: Target): void {
  const request = attack.request(key)
  for (let n = 0; n < attack.connections; n++) open(attack, port, request)
}

function open(attack: Attack, port: number, request: readonly Buffer[]): void {
  const { pipelined = 1, withheld, endless, drip, leaveMs, unread } = attack
  const socket = connect({ host: HOST, port, noDelay: true })
  let waiting = 0
  const timers: NodeJS.Timeout[] = []
  if (leaveMs !== undefined) timers.push(setTimeout(() => socket.destroy(), leaveMs))
  if (drip !== undefined) timers.push(setInterval(() => socket.write(drip), 1000))

  onStatus(socket, (status) => {
    count(String(status))
    waiting--
    tally.waiting--
    const refused = status >= 400
    if (endless || (unread && refused)) return void socket.destroy()
    if (unread) return void socket.pause()
    if (withheld !== undefined) socket.write(withheld)
    if (refused) timers.push(setTimeout(send, PAUSE_MS))
    else send()
  })
  socket.on('error', (error) => count((error as NodeJS.ErrnoException).code ?? error.message))
  socket.on('close', () => {
    for (const timer of timers) clearTimeout(timer)
    tally.waiting -= waiting
    setTimeout(() => open(attack, port, request), leaveMs === undefined ? PAUSE_MS : 0)
  })
  tally.connections++
  // Node.js buffers what is written before the connection is open.
  for (let n = 0; n < pipelined; n++) send()

  function send(): void {
    if (!socket.writable) return
    waiting++
    tally.waiting++
    tally.requests++
    socket.cork()
    for (const bytes of request) socket.write(bytes)
    process.nextTick(() => socket.uncork())
  }
}

/** Calls `act` with the status of each response on a connection. */
function onStatus(socket: Socket, act: (status: number) => void): void {
  // The end of the previous chunk, because a status line may be split over two chunks.
  let rest = Buffer.alloc(0)
  socket.on('data', (piece) => {
    const bytes = Buffer.concat([rest, piece])
    let end = 0
    for (let at = bytes.indexOf(STATUS_LINE); at !== -1; at = bytes.indexOf(STATUS_LINE, at + 1)) {
      if (at + STATUS_LENGTH > bytes.length) break
      end = at + STATUS_LENGTH
      act(Number(bytes.toString('latin1', at + STATUS_LINE.length, end)))
    }
    rest = Buffer.from(bytes.subarray(Math.max(end, bytes.length - STATUS_LENGTH + 1)))
  })
}

function count(what: string): void {
  tally.ends[what] = (tally.ends[what] ?? 0) + 1
}
