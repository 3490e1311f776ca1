import { connect, type Socket } from 'node:net'
import { buildRequest } from '../order-events.ts'

/** What to measure. */
export interface Order {
  port: number
  key: string
  connections: number
  /** Records per request. */
  size: number
  seconds: number
}

/** Rates count the responses that arrive in time, or the first one; `acknowledged` counts the records of every 201. */
export interface Measurement {
  /** Records per second, counting only responses that arrived before the end of the measurement. */
  rate: number
  p50_ms: number
  p99_ms: number
  /** Records that got 201, including those after the end of the measurement. */
  acknowledged: number
  /** Requests that did not get 201. */
  failures: number
  /** The status of the first failure, or the error of its connection. */
  failure?: string
}

/** The size of the array of latencies, and so the maximum number of requests in a measurement. */
const MAX_REQUESTS = 2_000_000
/** A connection on which nothing happens for this long has failed. */
const STALL_MS = 120_000
const CREATED = 201

process.on('message', async (order: Order) => process.send?.(await measure(order)))
process.once('disconnect', () => process.exit())
process.send?.('ready')

/** Each connection sends its next request as soon as it has the response to the previous one, until the time is over. */
async function measure({ port, key, connections, size, seconds }: Order): Promise<Measurement> {
  // In microseconds. The size is fixed, because copying a growing array would show up as latency.
  const latencies = new Uint32Array(MAX_REQUESTS)
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
      connection.onResponse = (status) => {
        const now = performance.now()
        if (status === CREATED) {
          acknowledged += size
          // In a very short measurement, a busy machine may send no response in time. Then the first response counts.
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
        if (now >= end || sent >= MAX_REQUESTS) {
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
 * Implements only as much of HTTP/1.1 as is needed to find the end of a response: the status and Content-Length. A client library
 * would need more processor time than the servers that are measured.
 */
class Connection {
  readonly #socket: Socket
  #rest: Buffer | undefined
  /** Bytes of the current response that have not arrived yet. */
  #expected = 0
  #status = 0
  onResponse: (status: number) => void = () => {}
  onBroken: (reason: string) => void

  constructor(port: number, onOpen: () => void, onRefused: (error: Error) => void) {
    this.onBroken = (reason) => onRefused(new Error(reason))
    this.#socket = connect({
      host: '127.0.0.1',
      port,
      noDelay: true,
      // Always reads into the same buffer, without the overhead of streams.
      onread: {
        buffer: Buffer.allocUnsafe(64 * 1024),
        callback: (size, buffer) => {
          this.#read((buffer as Buffer).subarray(0, size))
          return true
        },
      },
    })
    this.#socket.setTimeout(STALL_MS, () => this.#socket.destroy(new Error('no response')))
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
    if (this.#expected > 0) {
      this.#expected -= chunk.length
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
      this.#expected = head + 4 + Number.parseInt(bytes.toString('latin1', length + 16, length + 24), 10) - bytes.length
    }
    if (this.#expected === 0) this.onResponse(this.#status)
  }
}
