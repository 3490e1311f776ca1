import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Answer } from './checker.ts'
import { contentOf } from './records.ts'

export interface WritersOptions {
  /** Where a new connection goes. */
  port(): number
  key: string
  source: string
  clients: number
  /** A request that is not answered by then counts as not answered, in milliseconds. */
  patienceMs: number
}

/** Clients that store records, each one request after the other, and note every answer. */
export interface Writers {
  answers: Answer[]
  /** The longest that one request waited for its answer. */
  slowestMs(): number
  /** From the first try to store some records to the answer that ended it, the longest. */
  longestMs(): number
  /** Resolves when so many more requests were acknowledged. @throws when it takes three minutes */
  acknowledged(more: number): Promise<void>
  /** Waits for the answer to what each client is sending, and ends them. */
  stop(): Promise<void>
}

const STALLED_MS = 180_000
/** Between two requests of a client: the machine is to be busy, and not measured. */
const PAUSE_MS = 10
const RETRY_MS = 250
/** Resent for so long; then whoever started the servers has failed to bring them back. */
const LONGEST_MS = 90_000

export function startWriters({ port, key, source, clients, patienceMs }: WritersOptions): Writers {
  const answers: Answer[] = []
  let [next, done, longest, slowest, stopping] = [0, 0, 0, 0, false]
  const waiting = new Set<{ at: number; wake: () => void }>()
  const running = Promise.all(Array.from({ length: clients }, (_, client) => run(client)))
  // Told by stop().
  running.catch(() => {})
  return { answers, longestMs: () => longest, slowestMs: () => slowest, acknowledged, stop }

  async function run(client: number): Promise<void> {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    // A balancer of connections, not of requests, as the Service of a cluster is.
    agent.createConnection = () => connect(port(), '127.0.0.1')
    try {
      for (let turn = client; !stopping; turn++) {
        await deliver(agent, client, makeRequest(turn))
        await sleep(PAUSE_MS * 2 * Math.random())
      }
    } finally {
      agent.destroy()
    }
  }

  /** Sends until the records are stored. Every third client gives up on a refusal, so that its word can be checked. */
  async function deliver(agent: Agent, client: number, message: Message): Promise<void> {
    const begin = performance.now()
    for (;;) {
      const sent = performance.now()
      const answer = await post(agent, message)
      answers.push(answer)
      slowest = Math.max(slowest, performance.now() - sent)
      const ok = answer.status !== undefined && answer.status < 300
      longest = Math.max(longest, performance.now() - begin)
      if (ok) noteDone()
      if (ok || (answer.status !== undefined && client % 3 === 0) || performance.now() - begin > LONGEST_MS) return
      await sleep(RETRY_MS * (0.5 + Math.random()))
    }
  }

  /** One record, or a few; some without an id, known by their Idempotency-Key; some all-or-nothing. */
  function makeRequest(turn: number): Message {
    const count = turn % 3 === 0 ? 1 : 2 + (turn % 9)
    const numbers = Array.from({ length: count }, () => next++)
    const keyed = turn % 4 === 1
    const records = numbers.map((n) => ({
      source,
      type: 'sluice.durability',
      ...(keyed ? {} : { id: String(n) }),
      data: { n, content: contentOf(n) },
    }))
    const body = JSON.stringify(count === 1 ? records[0] : records)
    const headers: Record<string, string> = {
      authorization: `Bearer ${key}`,
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(body)),
      ...(keyed ? { 'idempotency-key': `"${numbers[0]}"` } : {}),
      ...(turn % 5 === 2 ? { prefer: 'handling=strict' } : {}),
    }
    return { numbers, headers, body }
  }

  async function post(agent: Agent, { numbers, headers, body }: Message): Promise<Answer> {
    try {
      const signal = AbortSignal.timeout(patienceMs)
      const message = request({ agent, method: 'POST', path: '/v1/records', host: '127.0.0.1', headers, signal })
      message.end(body)
      const [response] = (await once(message, 'response')) as [IncomingMessage]
      const answer = JSON.parse(await text(response))
      const results = (answer.results as { status: string }[] | undefined)?.map(({ status }) => status)
      const reason = answer.code && `${answer.code}, ${answer.outcome}`
      return { numbers, status: response.statusCode as number, results, outcome: answer.outcome, reason } as Answer
    } catch (error) {
      const { name, code, message } = error as NodeJS.ErrnoException
      return { numbers, reason: name === 'AbortError' ? `nothing in ${patienceMs} ms` : (code ?? message) }
    }
  }

  function noteDone(): void {
    done++
    for (const waiter of waiting) {
      if (done < waiter.at) continue
      waiting.delete(waiter)
      waiter.wake()
    }
  }

  async function acknowledged(more: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const waiter = { at: done + more, wake: resolve }
    waiting.add(waiter)
    const timer = setTimeout(
      () => reject(new Error(`No ${more} requests were acknowledged in three minutes`)),
      STALLED_MS,
    )
    await promise.finally(() => clearTimeout(timer))
  }

  async function stop(): Promise<void> {
    stopping = true
    await running
  }
}

interface Message {
  numbers: number[]
  headers: Record<string, string>
  body: string
}
