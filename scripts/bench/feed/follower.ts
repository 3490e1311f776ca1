import { once } from 'node:events'
import { type ClientRequest, get, type IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Following {
  port: number
  key: string
  /** Filters of the feed, as a query. */
  query: string
  /** Called with the text of each event with records. */
  onRecords: (event: string) => void
}

const RETRY_MS = 100
/** A follower that is refused this often gives up. */
const MAX_RETRIES = 100

const END = '\n\n'

/** Follows the feed with server-sent events, like an EventSource: when a response ends, it continues after the last event. */
export class Follower {
  readonly #following: Following
  #last: string | undefined
  #request: ClientRequest | undefined
  #response: IncomingMessage | undefined
  #closed = false
  #rest = ''

  constructor(following: Following) {
    this.#following = following
  }

  /** Resolves when the server has sent the first event: from then on, the follower gets every new record. */
  async open(): Promise<void> {
    for (let retries = 0; ; retries++) {
      const response = await this.#connect()
      if (response?.statusCode === 200) return this.#read(response)
      response?.destroy()
      if (this.#closed) return
      if (retries === MAX_RETRIES)
        throw new Error(`a follower of the feed got ${response?.statusCode ?? 'no response'}`)
      await sleep(RETRY_MS)
    }
  }

  /** Reads nothing any more. */
  stall(): void {
    this.#response?.pause()
  }

  close(): void {
    this.#closed = true
    this.#request?.destroy()
  }

  async #connect(): Promise<IncomingMessage | undefined> {
    const { port, key, query } = this.#following
    const headers = { authorization: `Bearer ${key}`, ...(this.#last && { 'last-event-id': this.#last }) }
    const path = `/v1/feed?live=sse&offset=now&${query}`
    this.#request = get({ host: '127.0.0.1', port, path, headers, agent: false })
    this.#request.on('error', () => {})
    const [response] = await once(this.#request, 'response').catch(() => [])
    return response
  }

  async #read(response: IncomingMessage): Promise<void> {
    this.#response = response
    this.#rest = ''
    response.setEncoding('latin1')
    response.on('data', (text: string) => this.#cut(text))
    response.on('error', () => {})
    response.once('close', () => {
      if (!this.#closed) void this.open()
    })
    // If the response breaks off before, `close` begins the next one.
    await once(response, 'data').catch(() => {})
  }

  #cut(text: string): void {
    const events = (this.#rest + text).split(END)
    this.#rest = events.pop() as string
    for (const event of events) {
      this.#last = /^id: ?(.*)$/m.exec(event)?.[1] ?? this.#last
      if (/^event: ?data$/m.test(event)) this.#following.onRecords(event)
    }
  }
}
