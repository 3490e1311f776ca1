import { setTimeout as sleep } from 'node:timers/promises'
import { Client, isLost } from './client.ts'
import { type Attempt, type History, isAcknowledged } from './history.ts'
import { judgeBatch } from './judge-batch.ts'
import { judgeLines } from './judge-lines.ts'
import { planFresh, planRace } from './plan.ts'
import type { Random } from './random.ts'
import { makeRequest, type Request } from './requests.ts'

interface SenderOptions {
  history: History
  random: Random
  key: string
  /** The port for the next request. */
  port(): number
  patienceMs: number
  /** Numbers the requests of all clients. */
  nextNumber(): number
  /** Whether requests should have many new records now. */
  isFresh(): boolean
}

/** A client that sends one request after the other until it is stopped. It sends some requests without a known outcome again. */
export async function sendRequests(options: SenderOptions, stop: AbortSignal): Promise<void> {
  const { random, isFresh, nextNumber } = options
  const client = new Client()
  while (!stop.aborted) {
    const fresh = isFresh()
    const request = makeRequest(random, { number: nextNumber(), plan: (fresh ? planFresh : planRace)(random), fresh })
    const patient = random.chance(0.6)
    await sendOnce(client, request, options)
    if (patient && request.exchange.attempts.some(isOpen))
      await sendOnce(client, resend(request, nextNumber()), options)
    await sleep(random.int(0, 30))
  }
  client.close()
}

/** Sends a request, and records it and its response in the history. */
export async function sendOnce(
  client: Client,
  request: Request,
  options: Omit<SenderOptions, 'nextNumber' | 'isFresh'>,
) {
  const { history, key, port, patienceMs } = options
  const { exchange, plan, headers, pieces } = request
  exchange.port = port()
  exchange.begin = history.now()
  exchange.end = Number.POSITIVE_INFINITY
  exchange.response = 'none yet'
  // Before the response, because readers may see the records before the sender gets the response.
  history.add(exchange)
  const response = await client.send({
    ...{ method: 'POST', path: '/v1/records', port: exchange.port, pieces, pauseMs: plan.pauseMs, patienceMs },
    headers: { authorization: `Bearer ${key}`, ...headers },
  })
  exchange.end = history.now()
  const complain = (rule: string, detail: string) =>
    history.complain(rule, `request ${exchange.number} (${exchange.what}): ${detail}`, exchange.attempts[0]?.identity)
  if (isLost(response)) {
    exchange.response = response.reason
    if (response.late) complain('Every request must get a response.', `no response in ${patienceMs} ms`)
    return response
  }
  try {
    const { code, outcome } = JSON.parse(response.text)
    exchange.response = [response.status, code, outcome].filter(Boolean).join(' ')
    if (plan.shape === 'line') judgeLines(request, response, complain)
    else judgeBatch(request, response, complain)
    if (exchange.attempts.some(isAcknowledged)) history.moments.happened('acknowledged', exchange.begin)
  } catch (error) {
    complain('Every response must be readable.', `${error}: ${response.status} ${response.text.slice(0, 500)}`)
  }
  return response
}

/** Whether the record should be sent again. Without an id of its own, it would be stored twice. */
const isOpen = ({ claim, id }: Attempt) => id !== undefined && (claim === 'unknown' || claim === 'not_written')

/** The same bytes as a new request. */
function resend(request: Request, number: number): Request {
  const counted = { createdLines: undefined, storedLines: undefined }
  const exchange = { ...request.exchange, ...counted, number, what: `${request.exchange.number} again` }
  const renew = (attempt: Attempt): Attempt => ({ ...attempt, exchange, claim: 'unknown', cursor: undefined })
  exchange.attempts = request.exchange.attempts.map(renew)
  return { ...request, exchange }
}
