import type { FeedPage } from './recent-records.ts'

/** What the server adds to an event. No other text of a record is followed by a newline. */
const ADDED = /,"receivedAt":"[^"]*","cursor":"[^"]*"}\n/g

/** The forms of a record in a page: `receivedAt` is not a valid name of an attribute of a CloudEvent. */
export type Shape = 'record' | 'cloudevent'

/** A page as a JSON array. */
export const toJson = ({ lines }: FeedPage, shape: Shape): Buffer =>
  Buffer.from(arrayOf(shape === 'record' ? lines : lines.replaceAll(ADDED, '}\n')))

const arrayOf = (lines: string) => `[${lines.slice(0, -1).replaceAll('\n', ',')}]`

/** One record per line. An empty page is an empty line, which keeps the connection open. */
export async function* toLines(pages: AsyncIterable<FeedPage>): AsyncGenerator<Buffer> {
  for await (const page of pages) yield linesOf(page, '')
}

const linesOf = shared(({ lines }) => lines || '\n')

/**
 * Server-sent events (HTML Living Standard, section 9.2; Durable Streams 1.0, section 5.7): `data` with records, then `control`. Each
 * has an id, so an EventSource continues after it. A comment keeps the connection open.
 * @param cursor makes the cursor of a response
 */
export async function* toEvents(pages: AsyncIterable<FeedPage>, cursor: () => string): AsyncGenerator<Buffer> {
  let last: FeedPage | undefined
  for await (const page of pages) {
    // Not before the first page: until then the request can still be refused.
    if (last === undefined) yield RETRY
    const isKnown = page.lines === '' && page.next === last?.next && page.upToDate === last.upToDate
    yield isKnown ? COMMENT : eventsOf(page, cursor())
    last = page
  }
}

/** How long an EventSource waits before it reconnects, in milliseconds. Browsers wait for several seconds otherwise. */
const RETRY = Buffer.from('retry: 250\n\n')
const COMMENT = Buffer.from(':\n\n')

const eventsOf = shared(({ lines, next, upToDate }, streamCursor) => {
  const data = lines === '' ? '' : event('data', next, arrayOf(lines))
  const control = { streamNextOffset: next, streamCursor, ...(upToDate && { upToDate }) }
  return data + event('control', next, JSON.stringify(control))
})

const event = (name: string, id: string, data: string) => `id:${id}\nevent: ${name}\ndata:${data}\n\n`

/**
 * Readers may share a page. Then they share its text as well, unless the texts differ in something else. Only the latest text is
 * kept: clients choose their cursors, and a page of each would use much memory.
 */
function shared(write: (page: FeedPage, other: string) => string): (page: FeedPage, other: string) => Buffer {
  const texts = new WeakMap<FeedPage, { other: string; text: Buffer }>()
  return (page, other) => {
    const latest = texts.get(page)
    if (latest?.other === other) return latest.text
    const text = Buffer.from(write(page, other))
    texts.set(page, { other, text })
    return text
  }
}
