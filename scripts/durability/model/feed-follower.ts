import { hash } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect, type Kind, MAX_LIMIT, PATIENCE_MS, START } from '../feed-kinds.ts'
import type { Piece } from '../feed-responses.ts'
import { compareCursors, readShown, type Shown } from './contents.ts'
import type { History } from './history.ts'
import { judgeFollower } from './judge-follower.ts'
import { readProblem } from './problem.ts'
import type { Random } from './random.ts'
import { see } from './see.ts'
import type { StoredRow } from './verdict.ts'

interface FeedFollowerOptions {
  history: History
  kind: Kind
  random: Random
  key: string
  /** The port for the next connection. */
  port(): number
  /** The records of all followers, by a hash of their text: all get the same texts. */
  known: Map<string, Shown>
}

/** Maximum pauses, at the head and after a failure. */
const PAUSE_MS = 200
const RETRY_MS = 250

/** Follows GET /v1/feed in one way, from its beginning. It reconnects at random moments, and continues from its own offset. */
export class FeedFollower {
  readonly #options: FeedFollowerOptions
  readonly #shown: Shown[] = []
  #offset = START
  readonly #progress = new EventEmitter()
  readonly #over = new AbortController()
  readonly #running: Promise<void>

  constructor(options: FeedFollowerOptions) {
    this.#options = options
    this.#running = this.#run()
  }

  /** Follows until it has passed the last one of these rows, or until it gets no further for `patienceMs`. */
  async finish(rows: readonly StoredRow[], patienceMs: number): Promise<void> {
    const last = rows.at(-1)?.cursor ?? START
    while (compareCursors(this.#offset, last) < 0) {
      const moved = once(this.#progress, 'moved', { signal: AbortSignal.timeout(patienceMs) })
      if ((await moved.catch(() => undefined)) === undefined) break
    }
    await this.stop()
  }

  async stop(): Promise<void> {
    this.#over.abort()
    await this.#running
  }

  judge(rows: readonly StoredRow[]): void {
    const { history, kind } = this.#options
    judgeFollower(history, rows, { name: kind.name, shown: this.#shown })
  }

  async #run(): Promise<void> {
    const { kind, random, key, port } = this.#options
    const over = this.#over.signal
    for (let turn = 0; !over.aborted; turn++) {
      const patienceMs = random.int(0, PATIENCE_MS[turn % PATIENCE_MS.length] as number)
      const signal = AbortSignal.any([over, AbortSignal.timeout(patienceMs)])
      const begin = this.#options.history.now()
      let pauseMs = 0
      try {
        const request = { port: port(), key, offset: this.#offset, limit: random.int(1, MAX_LIMIT), signal }
        const response = await connect(kind, request)
        if (response.status !== 200 && response.status !== 204) throw await this.#judgeRefusal(response)
        for await (const piece of kind.read(response)) this.#take(piece, begin)
        if (response.headers.has('stream-up-to-date')) pauseMs = PAUSE_MS
      } catch (error) {
        if (!signal.aborted) pauseMs = RETRY_MS
        if (error instanceof SyntaxError) this.#complain('A response to a read must be valid JSON.', error.message)
      }
      await sleep(random.int(0, pauseMs))
    }
  }

  #take({ records, next }: Piece, begin: number): void {
    const { history, kind } = this.#options
    this.#shown.push(...see(history, kind.name, begin, () => records.map((text) => this.#recognise(text))))
    const moved = next !== this.#offset
    this.#offset = next
    if (moved) this.#progress.emit('moved')
  }

  #recognise(text: string): Shown {
    const { known } = this.#options
    const key = hash('sha1', text)
    const shown = known.get(key) ?? readShown(text)
    known.set(key, shown)
    return shown
  }

  /** Only an outage may refuse a follower. @returns what to throw */
  async #judgeRefusal(response: Response): Promise<Error> {
    const { status, headers } = response
    const text = await response.text()
    const complain = this.#complain.bind(this)
    if (status !== 503) complain('The feed may refuse a follower only with 503.', `${status} ${text}`)
    readProblem({ status, headers: Object.fromEntries(headers), text }, complain)
    return new Error(text)
  }

  #complain(rule: string, detail: string): void {
    const { history, kind } = this.#options
    history.complain(rule, `${kind.name}: ${detail}`)
  }
}
