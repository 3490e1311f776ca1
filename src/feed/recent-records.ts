import { type FeedFilter, type FeedRecord, isMatch, nameOf } from './feed-record.ts'

/** Part of the feed for one reader. */
export interface FeedPage {
  records: FeedRecord[]
  /** The offset to continue from: all matching records up to here are in the page. */
  next: string
  /** Whether `next` is the head. */
  upToDate: boolean
}

export interface PageLimits {
  limit: number
  /** In characters. A page may have one record that is larger. */
  maxBytes: number
}

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
  /** What was read since the last change: readers with the same filter at the same offset share a page, and its text (formats.ts). */
  readonly #pages = new Map<string, FeedPage>()

  /** @param maxSize in characters. A larger record is kept until the next one arrives. */
  constructor(maxSize: number) {
    this.#maxSize = maxSize
  }

  get head(): string {
    return this.#head
  }

  /** Forgets everything, and begins again at this offset. */
  reset(head: string): void {
    this.#records = []
    this.#first = 0
    this.#size = 0
    this.#start = head
    this.#head = head
    this.#pages.clear()
  }

  /** @param records in feed order, all those after the head. @param head the new head */
  add(records: readonly FeedRecord[], head: string): void {
    for (const record of records) {
      this.#records.push(record)
      this.#size += sizeOf(record)
    }
    while (this.#size > this.#maxSize && this.#first < this.#records.length - 1) {
      const oldest = this.#records[this.#first++] as FeedRecord
      this.#size -= sizeOf(oldest)
      this.#start = oldest.offset
    }
    if (this.#first > this.#records.length / 2) {
      this.#records.splice(0, this.#first)
      this.#first = 0
    }
    this.#head = head
    this.#pages.clear()
  }

  /** @returns the next page after an offset; undefined if records after it are not here */
  read(filter: FeedFilter, after: string, limits: PageLimits): FeedPage | undefined {
    if (after < this.#start || after > this.#head) return undefined
    const name = `${after} ${limits.limit} ${limits.maxBytes} ${nameOf(filter)}`
    const page = this.#pages.get(name) ?? this.#select(filter, after, limits)
    this.#pages.set(name, page)
    return page
  }

  #select(filter: FeedFilter, after: string, { limit, maxBytes }: PageLimits): FeedPage {
    const records: FeedRecord[] = []
    let size = 0
    for (let at = this.#indexAfter(after); at < this.#records.length; at++) {
      const record = this.#records[at] as FeedRecord
      if (!isMatch(filter, record)) continue
      size += sizeOf(record)
      if (records.length === limit || (records.length > 0 && size > maxBytes))
        return { records, next: (records.at(-1) as FeedRecord).offset, upToDate: false }
      records.push(record)
    }
    return { records, next: this.#head, upToDate: true }
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

/** In characters. */
export const sizeOf = ({ event, rest }: FeedRecord) => event.length + rest.length
