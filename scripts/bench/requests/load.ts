import { connect, type Socket } from 'node:net'
import { buildRequest } from '../order-events.ts'

/** What to measure. */
export interface Order {
  port: number
  key: string
  connections: number
  /** Records in a request. */
  size: number
  seconds: number
}

/** Rates count the answers that arrive in time, or the first one; `acknowledged` counts the records of every 201. */
export interface Measurement {
  /** Records a second. */
  rate: number
  p50_ms: number
  p99_ms: number
  acknowledged: number
  /** Requests that were not answered with 201. */
  failures: number
  /** The status of the first failure, or what happened to its connection. */
  failure?: string
}

/** Requests a measurement may make, so that it is bounded in count too. */
const MOST_REQUESTS = 2_000_000
/** How long the answers to the last requests may take. */
const PATIENCE_MS = 120_000
const CREATED = 201

process.on('message', async (order: Order) => process.send?.(await measure(order)))
process.once('disconnect', () => process.exit())
process.send?.('ready')

/** Every connection sends its next request as soon as the one before is answered, until the time is over. */
async function measure({ port, key, connections, size, seconds }: Order): Promise<Measurement> {
  // In microseconds. Not an array that grows: copying it would show up as latency.
  const latencies = new Uint32Array(MOST_REQUESTS)
  let sent = 0
  let inTime = 0
  let acknowledged = 0
  let failures = 0
  let failure: string | undefined

  const sockets = await Promise.all(Array.from({ length: connections }, openConnection))
  const begin = performance.now()
  const end = begin + seconds * 1000
  await Promise.all(sockets.map(keepSending))

  const sorted = latencies.subarray(0, inTime).sort()
  const percentile = (p: number) => (sorted[Math.floor((sorted.length - 1) * p)] ?? 0) / 1000
  return {
    rate: (inTime * size) / seconds,
    p50_ms: percentile(0.5),
    p99_ms: percentile(0.99),
    acknowledged,
    failures,
    ...(failure === undefined ? {} : { failure }),
  }

  function openConnection(): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const connection = new Connection(port, () => resolve(connection), reject)
    })
  }

  function keepSending(connection: Connection): Promise<void> {
    const request = buildRequest(port, key, size)
    return new Promise((resolve) => {
      let sentAt = 0
      connection.onAnswer = (status) => {
        const now = performance.now()
        if (status === CREATED) {
          acknowledged += size
          // In a very short measurement, a busy machine may answer nothing in time. Then the first answer counts.
          if (now <= end || inTime === 0) latencies[inTime++] = (now - sentAt) * 1000
        } else {
          fail(String(status))
        }
        next(now)
      }
      connection.onBroken = (reason) => {
        fail(reason)
        resolve()
      }
      next(begin)

      function next(now: number): void {
        if (now >= end || sent >= MOST_REQUESTS) {
          connection.close()
          resolve()
          return
        }
        sent++
        sentAt = now
        request.renew()
        connection.send(request.bytes)
      }
    })
  }

  function fail(reason: string): void {
    failures++
    failure ??= reason
  }
}

/**
 * As much of HTTP/1.1 as is needed to know when an answer is over: the status and Content-Length. A client library would
 * take more of the processor than the servers that it is to measure.
 */
class Connection {
  readonly #socket: Socket
  #rest: Buffer | undefined
  /** Bytes of the answer that are still to come. */
  #missing = 0
  #status = 0
  onAnswer: (status: number) => void = () => {}
  onBroken: (reason: string) => void

  constructor(port: number, onOpen: () => void, onRefused: (error: Error) => void) {
    this.onBroken = (reason) => onRefused(new Error(reason))
    this.#socket = connect({
      host: '127.0.0.1',
      port,
      noDelay: true,
      // Read into one buffer, past the stream.
      onread: {
        buffer: Buffer.allocUnsafe(64 * 1024),
        callback: (size, buffer) => {
          this.#read((buffer as Buffer).subarray(0, size))
          return true
        },
      },
    })
    this.#socket.setTimeout(PATIENCE_MS, () => this.#socket.destroy(new Error('no answer')))
    this.#socket.once('connect', onOpen)
    this.#socket.once('error', (error) => this.onBroken(error.message))
    this.#socket.once('end', () => this.onBroken('connection closed'))
  }

  send(bytes: Buffer): void {
    this.#socket.write(bytes)
  }

  close(): void {
    this.onBroken = () => {}
    this.#socket.destroy()
  }

  #read(chunk: Buffer): void {
    if (this.#missing > 0) {
      this.#missing -= chunk.length
    } else {
      const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk])
      const head = bytes.indexOf('\r\n\r\n')
      if (head === -1) {
        this.#rest = Buffer.from(bytes)
        return
      }
      this.#rest = undefined
      this.#status = Number(bytes.toString('latin1', 9, 12))
      const length = bytes.indexOf('content-length: ')
      this.#missing = head + 4 + Number.parseInt(bytes.toString('latin1', length + 16, length + 24), 10) - bytes.length
    }
    if (this.#missing === 0) this.onAnswer(this.#status)
  }
}
