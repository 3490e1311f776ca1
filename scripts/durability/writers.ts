import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { rivalsOf } from './plans.ts'
import { type Message, makeMessages } from './requests.ts'
import { type ClientResponse, readResponse } from './responses.ts'

interface WritersOptions {
  /** The port for a new connection. */
  port(): number
  key: string
  source: string
  /** How long a client waits for a response, in milliseconds. */
  patienceMs: number
  /** Mean pause between two requests of a client, in milliseconds. */
  pauseMs: number
}

/** Clients that store records, each one request after the other, and keep every response. */
export interface Writers {
  responses: ClientResponse[]
  /** The longest time that a request waited for its response. */
  slowestMs(): number
  /** The longest time from the first try of a request to its final response. */
  longestMs(): number
  /** Resolves after this many further requests have been acknowledged. @throws after three minutes */
  acknowledged(more: number): Promise<void>
  /** Resolves when the next request gets a 5xx. */
  refused(): Promise<void>
  /** Waits for the response to the current request of each client, and ends the clients. */
  stop(): Promise<void>
}

/** Clients without competitors, and teams of rivals that send the same records at the same time. */
const SINGLES = 18
const TEAMS = 2
const RIVALS = rivalsOf(1).length
/** Each client has at most one request in flight. */
export const CLIENTS = SINGLES + TEAMS * RIVALS

const STALLED_MS = 180_000
const RETRY_MS = 250
/** A request is sent again for this long. After that, the fault has failed to restore the service. */
const MAX_MS = 90_000

export function startWriters({ port, key, source, patienceMs, pauseMs }: WritersOptions): Writers {
  const responses: ClientResponse[] = []
  let [done, longest, slowest, stopping] = [0, 0, 0, false]
  // Even requests are sent by one client, odd ones by a team: see plans.ts.
  const next = { single: 0, team: 1 }
  const waiting = new Set<{ at: number; wake: () => void }>()
  let nextRefusal = Promise.withResolvers<void>()
  const running = Promise.all([
    ...Array.from({ length: SINGLES }, (_, client) => run('single', [client])),
    ...Array.from({ length: TEAMS }, (_, team) =>
      run(
        'team',
        Array.from({ length: RIVALS }, (_, rival) => SINGLES + team * RIVALS + rival),
      ),
    ),
  ])
  // stop() reports the rejection. Until then, it must not count as unhandled.
  running.catch(() => {})
  return { responses, longestMs: () => longest, slowestMs: () => slowest, acknowledged, refused, stop }

  async function run(kind: 'single' | 'team', clients: readonly number[]): Promise<void> {
    const agents = clients.map(() => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 })
      // The port is chosen per connection, not per request, as by a Service of Kubernetes.
      agent.createConnection = () => connect(port(), '127.0.0.1')
      return agent
    })
    try {
      while (!stopping) {
        const messages = makeMessages(next[kind], source)
        next[kind] += 2
        await Promise.all(messages.map((message, at) => deliver(agents[at] as Agent, clients[at] as number, message)))
        await sleep(pauseMs * 2 * Math.random())
      }
    } finally {
      for (const agent of agents) agent.destroy()
    }
  }

  /** Sends until the records are stored. Every third client stops after a refusal, so that the outcome in it can be checked. */
  async function deliver(agent: Agent, client: number, message: Message): Promise<void> {
    const begin = performance.now()
    for (;;) {
      const response = await post(agent, message)
      responses.push(response)
      slowest = Math.max(slowest, response.ended - response.begun)
      longest = Math.max(longest, performance.now() - begin)
      const { status } = response
      if (status !== undefined && status < 300) noteDone()
      if (status !== undefined && status >= 500) {
        nextRefusal.resolve()
        nextRefusal = Promise.withResolvers()
      }
      const final = status !== undefined && (status < 300 || status === 409 || status === 422 || client % 3 === 0)
      if (final || performance.now() - begin > MAX_MS) return
      await sleep(RETRY_MS * (0.5 + Math.random()))
    }
  }

  async function post(agent: Agent, message: Message): Promise<ClientResponse> {
    const { request: number, variant, plan, numbers, headers, body } = message
    const begun = performance.now()
    const base = { request: number, variant, strict: plan.strict === true, numbers, begun }
    try {
      const signal = AbortSignal.timeout(patienceMs)
      const authorized = { ...headers, authorization: `Bearer ${key}` }
      const sent = request({
        agent,
        method: 'POST',
        path: '/v1/records',
        host: '127.0.0.1',
        headers: authorized,
        signal,
      })
      sent.end(body)
      const [response] = (await once(sent, 'response')) as [IncomingMessage]
      const parsed = JSON.parse(await text(response))
      const status = response.statusCode as number
      return { ...base, ended: performance.now(), status, unsent: false, ...readResponse(message, status, parsed) }
    } catch (error) {
      const { name, code, message: reason } = error as NodeJS.ErrnoException
      const unsent = code === 'ECONNREFUSED'
      return {
        ...base,
        ended: performance.now(),
        claims: numbers.map(() => (unsent ? 'not_written' : 'nothing')),
        cursors: [],
        contradictions: [],
        unsent,
        reason: name === 'AbortError' ? `no response in ${patienceMs} ms` : (code ?? reason),
      }
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
      () => reject(new Error(`Fewer than ${more} requests were acknowledged in three minutes`)),
      STALLED_MS,
    )
    await promise.finally(() => clearTimeout(timer))
  }

  function refused(): Promise<void> {
    return nextRefusal.promise
  }

  async function stop(): Promise<void> {
    stopping = true
    await running
  }
}
