import { setTimeout as sleep } from 'node:timers/promises'
import { Client, type HttpResponse, isLost } from './client.ts'
import { compareCursors, readShown, type Shown } from './contents.ts'
import { type History, identityOf } from './history.ts'
import { readProblem } from './problem.ts'
import type { Random } from './random.ts'
import { elementsOf, membersOf } from './raw-json.ts'
import { see } from './see.ts'

interface ReadingOptions {
  history: History
  random: Random
  key: string
  /** The port for the next request. */
  port(): number
  patienceMs: number
}

interface PageQuery {
  order: 'asc' | 'desc'
  limit: number
  cursor: string | undefined
}

/** A reader of single records, pages and exports. Everything that it sees goes into the history. */
export class Reading {
  readonly #options: ReadingOptions
  readonly #client = new Client()

  constructor(options: ReadingOptions) {
    this.#options = options
  }

  /** Reads at random until it is stopped. */
  async run(stop: AbortSignal): Promise<void> {
    const { random } = this.#options
    for (; !stop.aborted; await sleep(random.int(0, 30))) {
      const kind = random.int(0, 9)
      if (kind < 7) await this.record()
      else if (kind < 9) await this.page({ order: 'desc', limit: random.pick([3, 100, 1000]), cursor: undefined })
      else await this.#export()
    }
    this.close()
  }

  close(): void {
    this.#client.close()
  }

  /** Reads one of the records that were recently sent. */
  async record(): Promise<void> {
    const { history, random } = this.#options
    const attempt = random.pick(random.pick(history.exchanges.slice(-200))?.attempts ?? [])
    if (attempt?.id === undefined || attempt.bad !== undefined) return
    const path = `/v1/records/${encodeURIComponent(attempt.source)}/${encodeURIComponent(attempt.id)}`
    const begin = history.now()
    const response = await this.#get(path, {})
    if (response?.status === 404) history.of(attempt.identity).absences.push({ begin, end: history.now() })
    if (response?.status === 200) see(history, 'a read', begin, () => [readShown(response.text)])
  }

  /** @returns undefined if the request failed */
  async page({ order, limit, cursor }: PageQuery): Promise<Shown[] | undefined> {
    const query = new URLSearchParams({ order, limit: String(limit), ...(cursor === undefined ? {} : { cursor }) })
    const { history } = this.#options
    const begin = history.now()
    const response = await this.#get(`/v1/records?${query}`, {})
    if (response?.status !== 200) return undefined
    const read = () => elementsOf(membersOf(response.text).get('records') as string).map(readShown)
    const records = see(history, `a page (${order})`, begin, read)
    this.#judgeOrder(order, cursor, records)
    return records
  }

  /** Exports everything that retention does not delete, newest first. */
  async #export(): Promise<void> {
    const { history } = this.#options
    const begin = history.now()
    const response = await this.#get('/v1/records?sourcePrefix=model/kept/', { accept: 'application/x-ndjson' })
    if (response?.status !== 200) return
    const lines = response.text.split('\n').filter((line) => line !== '')
    const records = see(history, 'an export', begin, () => lines.map(readShown))
    this.#judgeOrder('desc', undefined, records)
    const shown = new Set(records.map(({ source, id }) => identityOf(source, id)))
    for (const [identity, { attempts }] of history.identities) {
      const before = attempts.find(
        ({ claim, exchange }) => (claim === 'created' || claim === 'duplicate') && exchange.end < begin,
      )
      if (before !== undefined && identity.startsWith('model/kept/') && !shown.has(identity))
        history.complain(
          'An export must contain all records that were acknowledged before it began.',
          `began at ${begin} ms`,
          identity,
        )
    }
  }

  async #get(path: string, headers: Record<string, string>): Promise<HttpResponse | undefined> {
    const { history, key, port, patienceMs } = this.#options
    const all = { authorization: `Bearer ${key}`, ...headers }
    const message = { method: 'GET', path, port: port(), headers: all, pieces: [], pauseMs: 0, patienceMs } as const
    const response = await this.#client.send(message)
    if (isLost(response)) {
      if (response.late)
        history.complain('Every request must get a response.', `GET ${path}: no response in ${patienceMs} ms`)
      return undefined
    }
    if (response.status >= 400)
      readProblem(response, (rule, detail) => history.complain(rule, `GET ${path}: ${detail}`))
    return response
  }

  #judgeOrder(order: PageQuery['order'], after: string | undefined, records: Shown[]): void {
    let before = after
    for (const { source, id, cursor } of records) {
      const step = before === undefined ? 0 : compareCursors(cursor, before)
      if (before !== undefined && (order === 'asc' ? step <= 0 : step >= 0))
        this.#options.history.complain(
          'Records must be in the order of their cursors.',
          `${order}: ${before}, then ${cursor}`,
          identityOf(source, id),
        )
      before = cursor
    }
  }
}
