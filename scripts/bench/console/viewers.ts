import { Agent, type ClientRequest, type IncomingHttpHeaders, request } from 'node:http'
import type { PageRequest } from './recording.ts'

/** The requests of a page, which it repeats. `close` replies with what the viewers got. */
export type Task =
  | { kind: 'open'; port: number; key: string; viewers: number; requests: PageRequest[]; periodMs: number }
  | { kind: 'close' }

export interface Seen {
  responses: number
  bytes: number
  /** What was not 2xx, with its path. */
  failures: string[]
}

/** Between the beginnings of two polls, as in src/console/lib/follow.js. */
const PACE_MS = 1_000
const BEHIND_MS = 3_000

let timers: NodeJS.Timeout[] = []
let open = new Set<ClientRequest>()
let agent = new Agent({ keepAlive: true })
let seen: Seen = { responses: 0, bytes: 0, failures: [] }

process.on('message', (task: Task) => process.send?.(perform(task)))
process.once('disconnect', () => process.exit())
process.send?.('ready')

function perform(task: Task): Seen | null {
  if (task.kind === 'close') return close()
  const { viewers, periodMs } = task
  // One poll follows the other.
  const poll = task.requests.find(isPoll)
  const requests = task.requests.filter((each) => !isPoll(each) || each === poll)
  for (let viewer = 0; viewer < viewers; viewer++) {
    for (const each of requests) {
      const send = () => view(isPoll(each) ? from('now', each) : each, task)
      // The viewers have not opened the page at the same moment.
      const first = isPoll(each) ? (viewer * PACE_MS) / viewers : (each.at + (viewer * periodMs) / viewers) % periodMs
      timers.push(
        setTimeout(() => {
          send()
          if (!isPoll(each)) timers.push(setInterval(send, periodMs))
        }, first),
      )
    }
  }
  return null
}

/** It ends when there are records. Then the next one follows. */
const isPoll = ({ path }: PageRequest) => path.includes('live=long-poll')

const from = (offset: string, page: PageRequest): PageRequest => ({
  ...page,
  path: page.path.replace(/(?<=[?&]offset=)\w+/, offset),
})

function view(page: PageRequest, task: Task & { kind: 'open' }): void {
  const { method, path, accept } = page
  const { port, key } = task
  const begin = performance.now()
  const headers = { authorization: `Bearer ${key}`, accept, 'accept-encoding': 'gzip' }
  const sent = request({ host: '127.0.0.1', port, method, path, headers, agent }, (response) => {
    const status = response.statusCode as number
    seen.responses++
    if (status >= 300) seen.failures.push(`${status} ${path}`)
    response.on('data', (chunk: Buffer) => {
      seen.bytes += chunk.length
    })
    response.on('error', () => {})
    if (isPoll(page) && status < 300) response.on('end', () => pollAgain(page, task, begin, response.headers))
  })
  open.add(sent)
  sent.on('close', () => open.delete(sent))
  sent.on('error', (error) => {
    if (open.has(sent)) seen.failures.push(`${error.message} ${path}`)
  })
  sent.end()
}

function pollAgain(
  page: PageRequest,
  task: Task & { kind: 'open' },
  begin: number,
  headers: IncomingHttpHeaders,
): void {
  const next = from(String(headers['stream-next-offset']), page)
  const pace = headers['stream-up-to-date'] === 'true' ? PACE_MS : BEHIND_MS
  timers.push(setTimeout(() => view(next, task), Math.max(0, begin + pace - performance.now())))
}

function close(): Seen {
  for (const timer of timers) clearTimeout(timer)
  const left = open
  open = new Set()
  for (const each of left) each.destroy()
  agent.destroy()
  agent = new Agent({ keepAlive: true })
  timers = []
  const found = seen
  seen = { responses: 0, bytes: 0, failures: [] }
  return found
}
