import type { Waiting } from './waiting.ts'

/** The requests of one API key, in order of arrival. */
class KeyQueue {
  #requests: (Waiting | undefined)[] = []
  #first = 0
  /** When the key had its last turn, or came: smaller is longer ago. */
  turn: number

  constructor(turn: number) {
    this.turn = turn
  }

  get first(): Waiting | undefined {
    return this.#requests[this.#first]
  }

  get requests(): Waiting[] {
    return this.#requests.slice(this.#first) as Waiting[]
  }

  push(request: Waiting): void {
    this.#requests.push(request)
  }

  /** Removes the first request. To move the others each time would take longer the more of them wait. */
  shift(): void {
    // Its memory is reserved by nobody once it is answered, however long the others wait.
    this.#requests[this.#first++] = undefined
    if (this.#first * 2 < this.#requests.length) return
    this.#requests = this.#requests.slice(this.#first)
    this.#first = 0
  }
}

/**
 * Requests that wait for a flush. Each API key has a queue of its own, and the keys take turns: one request each, and first
 * the key whose last turn is longest ago. However many requests a key sends, another key's request is in one of the next
 * flushes.
 */
export class FairQueue {
  /** By key; keys without a request are not in it. */
  readonly #queues = new Map<string, KeyQueue>()
  #turn = 0
  #length = 0
  #rows = 0

  /** Requests. */
  get length(): number {
    return this.#length
  }

  get rows(): number {
    return this.#rows
  }

  /** The first requests of all keys: the oldest is among them. */
  get heads(): Waiting[] {
    return [...this.#queues.values()].map(({ first }) => first as Waiting)
  }

  get all(): Waiting[] {
    return [...this.#queues.values()].flatMap(({ requests }) => requests)
  }

  push(request: Waiting): void {
    let queue = this.#queues.get(request.key)
    if (queue === undefined) {
      queue = new KeyQueue(++this.#turn)
      this.#queues.set(request.key, queue)
    }
    queue.push(request)
    this.#length++
    this.#rows += request.rows.length
  }

  /**
   * Takes the requests of the next flush: one whatever its size, then as many as fit, whole. A strict request goes alone.
   * What does not fit is first the next time, since its key's last turn is longest ago then.
   */
  take(maxRows: number, maxBytes: number): Waiting[] {
    const turns = [...this.#queues].sort(([, one], [, other]) => one.turn - other.turn)
    const taken: Waiting[] = []
    let [rows, bytes, passed] = [0, 0, 0]
    for (let at = 0; passed < turns.length; at = (at + 1) % turns.length) {
      const [key, queue] = turns[at] as (typeof turns)[0]
      const request = queue.first
      if (request === undefined || (taken.length > 0 && !fits(request))) {
        passed++
        continue
      }
      passed = 0
      queue.turn = ++this.#turn
      this.#remove(key, queue)
      taken.push(request)
      if (request.strict) break
      rows += request.rows.length
      bytes += request.bytes
    }
    return taken

    function fits(request: Waiting): boolean {
      return rows + request.rows.length <= maxRows && bytes + request.bytes <= maxBytes && !request.strict
    }
  }

  /** Takes the requests whose deadline has passed. */
  takeLate(now: number): Waiting[] {
    const late: Waiting[] = []
    for (const [key, queue] of [...this.#queues]) {
      for (let { first } = queue; first !== undefined && first.deadline <= now; first = queue.first) {
        this.#remove(key, queue)
        late.push(first)
      }
    }
    return late
  }

  /** Removes the first request of a key. */
  #remove(key: string, queue: KeyQueue): void {
    this.#length--
    this.#rows -= (queue.first as Waiting).rows.length
    queue.shift()
    if (queue.first === undefined) this.#queues.delete(key)
  }
}
