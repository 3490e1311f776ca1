import { type FeedFilter, toFilter } from '../../src/feed/feed-filter.ts'
import type { FeedRecord } from '../../src/feed/feed-record.ts'
import { encodeOffset } from '../../src/lib/offset.ts'

/** The offset of the record with this number; 0: the one before the first record. */
export const offsetOf = (n: number): string => encodeOffset({ epoch: 1, xid: '1', n })

/** The record with this number, in feed order. @param size of its data */
export const makeRecord = (n: number, fields: Partial<FeedRecord> = {}, size = 0): FeedRecord => ({
  offset: offsetOf(n),
  source: 's',
  type: 't',
  subject: null,
  line: `{"id":"${n}","data":"${'x'.repeat(size)}","receivedAt":"2026-01-31T12:00:00Z","cursor":"${offsetOf(n)}"}\n`,
  ...fields,
})

/** A filter of a key without prefixes that selects only this; by default, everything. */
export const selecting = (selection: Partial<FeedFilter['selection']> = {}): FeedFilter =>
  toFilter({ allowedPrefixes: [], ...selection })

/** The numbers of the records in these lines. */
export const numbersIn = (lines = ''): number[] =>
  (lines.match(/.*\n/g) ?? []).map((line) => Number(JSON.parse(line).id))

/** An event of a stream. A comment has only `comment`. */
interface ServerSentEvent {
  event?: string
  id?: string
  data?: string
  retry?: string
  comment?: string
}

/** Parses server-sent events. @throws if the last one is not complete, or a line has no name */
export function parseEvents(text: string): ServerSentEvent[] {
  const blocks = text.split('\n\n')
  if (blocks.pop() !== '') throw new Error(`the last event is not complete: ${text.slice(-200)}`)
  return blocks.map((block) =>
    Object.fromEntries(
      block.split('\n').map((line) => {
        const [, name, value] = /^(\w*): ?(.*)$/s.exec(line) ?? []
        if (name === undefined) throw new Error(`not a line of an event: ${line}`)
        return [name === '' ? 'comment' : name, value]
      }),
    ),
  )
}
