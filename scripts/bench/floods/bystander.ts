import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

/** Another key than that of the flood. */
export interface Order {
  port: number
  key: string
  seconds: number
}

export interface Latencies {
  /** That were sent, and how many of them got no success in time. */
  requests: number
  failures: number
  /** What the first failure was. */
  failure?: string
  /** Of the successes; absent without any. */
  p50_ms?: number
  p99_ms?: number
  worst_ms?: number
}

/** A single record, a batch that does not arrive in one piece, and a record that is read. */
export type Witnessed = Record<'post' | 'batch' | 'get', Latencies>

/** The record that GET asks for; it is stored before. */
export const KNOWN = { source: 'bystander', type: 'known', id: 'known' }

/** One of each so often, whatever became of the one before: what stands still shows in all that come meanwhile. */
const EVERY_MS = 25
/** Less often, so that this client is no flood itself. */
const BATCH_EVERY_MS = 100
/** 100 kB: more than Node.js reads of a connection at once, which is 64 KiB. */
const BATCH_RECORDS = 100
const PADDING = ' '.repeat(1000)
/** How long an answer may take. */
const PATIENCE_MS = 10_000

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

/** Milliseconds, or what went wrong. */
type Outcome = number | string

function send({ port, key }: Order, agent: Agent, method: string, path: string, body?: string): Promise<Outcome> {
  const { promise, resolve } = Promise.withResolvers<Outcome>()
  const begin = performance.now()
  const headers = {
    authorization: `Bearer ${key}`,
    ...(body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
  }
  const signal = AbortSignal.timeout(PATIENCE_MS)
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
    resolve(signal.aborted ? `no answer in ${PATIENCE_MS} ms` : (error.code ?? error.message))
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
