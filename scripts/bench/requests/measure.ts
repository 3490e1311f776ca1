import { buildRequest } from '../order-events.ts'
import { Connection } from './connection.ts'

/** What to measure. */
export interface Order {
  port: number
  key: string
  connections: number
  /** Records per request. */
  size: number
  seconds: number
  /** Absent: each connection sends its next request as soon as it has the response to the previous one. */
  requestsPerSecond?: number
}

/**
 * Called for each request that got 201.
 * @param first the number of its first record (order-events.ts); the others follow
 * @param sentAt and `respondedAt`: by the clock of performance.now()
 */
type OnCreated = (first: number, sentAt: number, respondedAt: number) => void

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
const CREATED = 201

/** Each connection sends one request after the other, until the time is over. */
export async function measure(order: Order, onCreated?: OnCreated): Promise<Measurement> {
  const { port, key, connections, size, seconds, requestsPerSecond } = order
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
      let first = 0
      connection.onResponse = (status) => {
        const now = performance.now()
        if (status === CREATED) {
          acknowledged += size
          onCreated?.(first, sentAt, now)
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
        const dueAt = requestsPerSecond === undefined ? now : begin + (sent / requestsPerSecond) * 1000
        if (Math.max(now, dueAt) >= end || sent >= MAX_REQUESTS) {
          connection.close()
          resolve()
          return
        }
        sent++
        if (dueAt > now) setTimeout(send, dueAt - now)
        else send()
      }

      function send(): void {
        sentAt = performance.now()
        first = request.renew()
        connection.send(request.bytes)
      }
    })
  }

  function fail(reason: string): void {
    failures++
    failure ??= reason
  }
}
