import t from 'tap'
import { toEvents, toJson, toLines } from '../../src/feed/formats.ts'
import type { FeedPage } from '../../src/feed/recent-records.ts'
import { makeRecord, offsetOf, parseEvents } from '../helpers/feed.ts'

const page = (numbers: number[], upToDate = true, next = numbers.at(-1) ?? 0): FeedPage => ({
  lines: numbers.map((n) => makeRecord(n).line).join(''),
  next: offsetOf(next),
  upToDate,
  more: !upToDate,
})

async function* each(pages: FeedPage[]) {
  yield* pages
}

/** One text for each page. Before the first event, there is one more. */
const textsOf = async (chunks: AsyncIterable<Buffer>) => (await Array.fromAsync(chunks)).map(String)

let cursors = 0
const events = (...pages: FeedPage[]) => textsOf(toEvents(each(pages), () => `cursor ${++cursors}`))
t.beforeEach(() => {
  cursors = 0
})

/** A page with one record. */
const only = (line: string): FeedPage => ({ ...page([]), lines: line })

t.test('a page in JSON is an array, also without records', async (t) => {
  t.equal(String(toJson(page([]), 'record')), '[]')
  t.match(JSON.parse(String(toJson(page([1, 2]), 'record'))), [{ id: '1', cursor: offsetOf(1) }, { id: '2' }])
})

t.test('a CloudEvent has none of the members that the server adds', async (t) => {
  t.equal(String(toJson(page([]), 'cloudevent')), '[]')
  t.equal(String(toJson(page([1, 2]), 'cloudevent')), '[{"id":"1","data":""},{"id":"2","data":""}]')
  const data = { a: [{ b: 1, receivedAt: 'x', cursor: 'y' }], text: ',"receivedAt":"x","cursor":"y"}' }
  const added = { receivedAt: '2026-01-31T12:00:00Z', cursor: offsetOf(1) }
  const one = only(`${JSON.stringify({ data, ...added })}\n`)
  t.same(JSON.parse(String(toJson(one, 'cloudevent'))), [{ data }], 'members of the payload stay')
})

t.test('each record is a line, and a page without records is an empty line', async (t) => {
  t.same(await textsOf(toLines(each([page([1, 2]), page([]), page([3])]))), [
    makeRecord(1).line + makeRecord(2).line,
    '\n',
    makeRecord(3).line,
  ])
})

t.test('a page with records is an event with the records, and one with the offset to continue from', async (t) => {
  const texts = await events(page([1, 2], true, 5))
  t.equal(texts.length, 2)
  const [retry, data, control, ...rest] = parseEvents(texts.join(''))
  t.match(retry, { retry: /^\d+$/ })
  t.match(data, { event: 'data', id: offsetOf(5) })
  t.same(
    JSON.parse(data?.data as string).map(({ id }: { id: string }) => id),
    ['1', '2'],
  )
  t.match(control, { event: 'control', id: offsetOf(5) })
  t.strictSame(JSON.parse(control?.data as string), {
    streamNextOffset: offsetOf(5),
    streamCursor: 'cursor 1',
    upToDate: true,
  })
  t.same(rest, [])
})

t.test('only a page that ends at the head is up to date', async (t) => {
  const texts = await events(page([1], false))
  t.strictSame(JSON.parse(parseEvents(texts.join(''))[2]?.data as string), {
    streamNextOffset: offsetOf(1),
    streamCursor: 'cursor 1',
  })
})

t.test('a page without records is an event with the new offset', async (t) => {
  const [, first = '', second = ''] = await events(page([], true, 1), page([], true, 2))
  t.match(parseEvents(first)[0], { event: 'control', id: offsetOf(1) })
  const control = parseEvents(second)
  t.match(control, [{ event: 'control', id: offsetOf(2) }])
  t.match(JSON.parse(control[0]?.data as string), { streamCursor: 'cursor 2' })
})

t.test('a page with nothing new is a comment', async (t) => {
  const [, , ...later] = await events(page([1]), page([], true, 1), page([], true, 1))
  t.same(later, [':\n\n', ':\n\n'])
})

// The client learned only with the next record that it had reached the head.
t.test('a page with the same offset that reaches the head is an event', async (t) => {
  const [, , second = '', third] = await events(page([1], false), page([], true, 1), page([], true, 1))
  t.match(JSON.parse(parseEvents(second)[0]?.data as string), { streamNextOffset: offsetOf(1), upToDate: true })
  t.equal(third, ':\n\n')
})

t.test('the time to wait before reconnecting is sent once, at the beginning', async (t) => {
  const texts = await events(page([1]), page([2]))
  t.same(
    parseEvents(texts.join('')).map((event) => ('retry' in event ? 'retry' : event.event)),
    ['retry', 'data', 'control', 'data', 'control'],
  )
})

t.test('readers that share a page share its text', async (t) => {
  const one = page([1, 2])
  const lines = async () => (await Array.fromAsync(toLines(each([one]))))[0]
  const eventsWith = async (cursor: string) => (await Array.fromAsync(toEvents(each([one]), () => cursor)))[1]
  t.equal(await lines(), await lines())
  const text = await eventsWith('1')
  t.equal(await eventsWith('1'), text)
  t.match(String(await eventsWith('2')), '"streamCursor":"2"', 'another cursor is another text')
  t.not(await eventsWith('1'), text, 'only the latest is kept, however many cursors clients send')
})
