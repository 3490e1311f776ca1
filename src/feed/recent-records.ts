import type { FeedFilter } from './feed-filter.ts'
import type { FeedRecord } from './feed-record.ts'

/** Part of the feed for one reader. */
export interface FeedPage {
  /** Each record in JSON, and a newline. */
  lines: string
  /** The offset to continue from: all matching records up to here are in the page. */
  next: string
  /** Whether `next` is the head. */
  upToDate: boolean
  /** Whether more of the feed can be read at once. */
  more: boolean
}

export interface PageLimits {
  limit: number
  /** In characters. A page may have one record that is larger. */
  maxBytes: number
}

/** How many pages are kept for readers at the same offset, and how long the name of a page may be, in characters. */
const MAX_PAGES = 64
const MAX_NAME = 1024

/** The newest records of the feed, in memory for all readers. The oldest ones make room for new ones. */
export class RecentRecords {
  readonly #maxSize: number
  #records: FeedRecord[] = []
  /** Index of the oldest record. The ones before it are removed together, now and then. */
  #first = 0
  #size = 0
  /** All records after this offset, up to the head, are here. */
  #start = ''
  #head = ''
  #upToDate = false
  #version = 0
  /** What was read since the last change: readers with the same filter at the same offset share a page, and its text (formats.ts). */
  readonly #pages = new Map<string, FeedPage>()

  /** @param maxSize in characters. A larger record is kept until the next one arrives. */
  constructor(maxSize: number) {
    this.#maxSize = maxSize
  }

  get head(): string {
    return this.#head
  }

  get upToDate(): boolean {
    return this.#upToDate
  }

  /** Changes when there is something new to read, or the head is reached. */
  get version(): number {
    return this.#version
  }

  /** Forgets everything, and begins again at this offset. */
  reset(head: string): void {
    this.#records = []
    this.#first = 0
    this.#size = 0
    this.#start = head
    this.#head = head
    this.#version++
    this.setUpToDate(false)
  }

  /** @param records in feed order, all those after the head. @param head the new head */
  add(records: readonly FeedRecord[], head: string): void {
    for (const record of records) {
      this.#records.push(record)
      this.#size += record.line.length
    }
    while (this.#size > this.#maxSize && this.#first < this.#records.length - 1) {
      const oldest = this.#records[this.#first++] as FeedRecord
      this.#size -= oldest.line.length
      this.#start = oldest.offset
    }
    if (this.#first > this.#records.length / 2) {
      this.#records.splice(0, this.#first)
      this.#first = 0
    }
    this.#head = head
    if (records.length > 0) this.#version++
    this.#pages.clear()
  }

  /** Whether the head is that of the feed, as far as is known. */
  setUpToDate(upToDate: boolean): void {
    if (upToDate && !this.#upToDate) this.#version++
    this.#upToDate = upToDate
    this.#pages.clear()
  }

  /** @returns the next page after an offset; undefined if the offset is not known here, or records after it are not here */
  read(filter: FeedFilter, after: string, limits: PageLimits): FeedPage | undefined {
    if (!this.#has(after)) return undefined
    const name = `${after} ${limits.limit} ${limits.maxBytes} ${filter.name}`
    const page = this.#pages.get(name) ?? this.#select(filter, after, limits)
    if (this.#pages.size < MAX_PAGES && name.length <= MAX_NAME) this.#pages.set(name, page)
    return page
  }

  /** Any other offset is checked in the database: it may be one of a history that was lost, or was never assigned. */
  #has(offset: string): boolean {
    if (offset < this.#start || offset > this.#head) return false
    if (offset === this.#start || offset === this.#head) return true
    return this.#records[this.#indexAfter(offset) - 1]?.offset === offset
  }

  #select({ isMatch }: FeedFilter, after: string, { limit, maxBytes }: PageLimits): FeedPage {
    const selected: FeedRecord[] = []
    let size = 0
    for (let at = this.#indexAfter(after); at < this.#records.length; at++) {
      const record = this.#records[at] as FeedRecord
      if (!isMatch(record)) continue
      size += record.line.length
      if (selected.length === limit || (selected.length > 0 && size > maxBytes))
        return { lines: join(selected), next: (selected.at(-1) as FeedRecord).offset, upToDate: false, more: true }
      selected.push(record)
    }
    return { lines: join(selected), next: this.#head, upToDate: this.#upToDate, more: false }
  }

  /** Binary search: offsets sort as text. */
  #indexAfter(offset: string): number {
    let [low, high] = [this.#first, this.#records.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#records[middle] as FeedRecord).offset > offset) high = middle
      else low = middle + 1
    }
    return low
  }
}

const join = (records: readonly FeedRecord[]): string => records.map(({ line }) => line).join('')
