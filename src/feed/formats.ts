import { type FeedRecord, type Shape, WRITE } from './feed-record.ts'
import type { FeedPage } from './recent-records.ts'

/** A page as a JSON array. */
export const toJson = ({ records }: FeedPage, shape: Shape): Buffer => Buffer.from(arrayOf(records, shape))

const arrayOf = (records: readonly FeedRecord[], shape: Shape) => `[${records.map(WRITE[shape]).join(',')}]`

/** One record per line. An empty page is an empty line, which keeps the connection open. */
export async function* toLines(pages: AsyncIterable<FeedPage>): AsyncGenerator<Buffer> {
  for await (const page of pages) yield linesOf(page)
}

const linesOf = shared(({ records }) => (records.length === 0 ? '\n' : `${records.map(WRITE.record).join('\n')}\n`))

/**
 * Server-sent events (HTML Living Standard, section 9.2; Durable Streams 1.0, section 5.7): `data` with records, then `control`. Each
 * has an id, so an EventSource continues after it. A comment keeps the connection open.
 * @param cursor makes the cursor of a response
 */
export async function* toEvents(pages: AsyncIterable<FeedPage>, cursor: () => string): AsyncGenerator<Buffer> {
  let last: Pick<FeedPage, 'next' | 'upToDate'> | undefined
  // How long an EventSource waits before it reconnects, in milliseconds. Browsers wait for several seconds otherwise.
  let begin = 'retry: 250\n\n'
  for await (const page of pages) {
    const { records, next, upToDate } = page
    if (records.length > 0) yield dataOf(page)
    const control = { streamNextOffset: next, streamCursor: cursor(), ...(upToDate && { upToDate }) }
    const isKnown = next === last?.next && upToDate === last.upToDate
    yield Buffer.from(begin + (isKnown ? ':\n\n' : event('control', next, JSON.stringify(control))))
    last = { next, upToDate }
    begin = ''
  }
}

const dataOf = shared(({ records, next }) => event('data', next, arrayOf(records, 'record')))

const event = (name: string, id: string, data: string) => `id:${id}\nevent: ${name}\ndata:${data}\n\n`

/** Readers may share a page. Then they share its text as well. */
function shared(write: (page: FeedPage) => string): (page: FeedPage) => Buffer {
  const texts = new WeakMap<FeedPage, Buffer>()
  return (page) => {
    const text = texts.get(page) ?? Buffer.from(write(page))
    texts.set(page, text)
    return text
  }
}
