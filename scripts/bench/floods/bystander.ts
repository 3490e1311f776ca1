import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Order {
  port: number
  /** Not the key of the flood. */
  key: string
  seconds: number
}

export interface Latencies {
  requests: number
  /** Requests that did not succeed in time. */
  failures: number
  /** The first failure. */
  failure?: string
  /** Latencies of the successful requests. Absent if there are none. */
  p50_ms?: number
  p99_ms?: number
  worst_ms?: number
}

/** Latencies by kind of request: POST of a single record, POST of a batch that arrives in several pieces, GET of a record. */
export type Witnessed = Record<'post' | 'batch' | 'get', Latencies>

/** The record that GET reads. It is stored before the flood. */
export const KNOWN = { source: 'bystander', type: 'known', id: 'known' }

/** Requests are sent at this interval, without waiting for earlier ones, so that a stall of the server shows in many of them. */
const EVERY_MS = 25
/** Batches are less frequent, so that this client is not a flood itself. */
const BATCH_EVERY_MS = 100
/** 100 kB, which is more than the 64 KiB that Node.js reads from a connection at once. */
const BATCH_RECORDS = 100
const PADDING = ' '.repeat(1000)
/** A request without a response after this time has failed. */
const TIMEOUT_MS = 10_000

process.on('message', async (order: Order) => process.send?.(await witness(order)))
process.once('disconnect', () => process.exit())
process.send?.('ready')

async function witness(order: Order): Promise<Witnessed> {
  const agent = new Agent({ keepAlive: true })
  const posts: Promise<Outcome>[] = []
  const batches: Promise<Outcome>[] = []
  const gets: Promise<Outcome>[] = []
  const begin = performance.now()
  for (let at = 0; at < order.seconds * 1000; at += EVERY_MS) {
    await sleep(Math.max(0, begin + at - performance.now()))
    const record = { source: KNOWN.source, type: 'new', id: `${process.pid}-${at}` }
    posts.push(send(order, agent, 'POST', '/v1/records', JSON.stringify(record)))
    gets.push(send(order, agent, 'GET', `/v1/records/${KNOWN.source}/${KNOWN.id}`))
    if (at % BATCH_EVERY_MS === 0) batches.push(send(order, agent, 'POST', '/v1/records', toBatch(record)))
  }
  const witnessed = {
    post: summarize(await Promise.all(posts)),
    batch: summarize(await Promise.all(batches)),
    get: summarize(await Promise.all(gets)),
  }
  agent.destroy()
  return witnessed
}

const toBatch = (record: { id: string }): string =>
  JSON.stringify(
    Array.from({ length: BATCH_RECORDS }, (_, index) => ({ ...record, id: `${record.id}-${index}`, data: PADDING })),
  )

/** The latency in milliseconds, or the reason for the failure. */
type Outcome = number | string

function send({ port, key }: Order, agent: Agent, method: string, path: string, body?: string): Promise<Outcome> {
  const { promise, resolve } = Promise.withResolvers<Outcome>()
  const begin = performance.now()
  const headers = {
    authorization: `Bearer ${key}`,
    ...(body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
  }
  const signal = AbortSignal.timeout(TIMEOUT_MS)
  const sent = request({ host: '127.0.0.1', port, method, path, headers, agent, signal }, (response) => {
    response.resume().on('end', () => {
      const status = response.statusCode as number
      resolve(status < 300 ? performance.now() - begin : String(status))
    })
    response.on('error', fail)
  })
  sent.on('error', fail).end(body)
  return promise

  function fail(error: NodeJS.ErrnoException): void {
    resolve(signal.aborted ? `no response in ${TIMEOUT_MS} ms` : (error.code ?? error.message))
  }
}

function summarize(outcomes: readonly Outcome[]): Latencies {
  const latencies = outcomes.filter((outcome) => typeof outcome === 'number').sort((a, b) => a - b)
  const failure = outcomes.find((outcome) => typeof outcome === 'string')
  const percentile = (p: number) => latencies[Math.floor((latencies.length - 1) * p)] as number
  return {
    requests: outcomes.length,
    failures: outcomes.length - latencies.length,
    ...(failure === undefined ? {} : { failure }),
    ...(latencies.length === 0 ? {} : { p50_ms: percentile(0.5), p99_ms: percentile(0.99), worst_ms: percentile(1) }),
  }
}
