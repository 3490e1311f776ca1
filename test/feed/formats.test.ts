import t from 'tap'
import { toFeedRecord } from '../../src/feed/feed-record.ts'
import { toEvents, toJson, toLines } from '../../src/feed/formats.ts'
import type { FeedPage } from '../../src/feed/recent-records.ts'
import { makeRecord, offsetOf, parseEvents } from '../helpers/feed.ts'

const page = (numbers: number[], upToDate = true, next = numbers.at(-1) ?? 0): FeedPage => ({
  records: numbers.map((n) => makeRecord(n)),
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

/** A record as the database returns it. */
const stored = {
  epoch: 1,
  xid: '1',
  n: '1',
  received_at: '2026-01-02 03:04:05+00',
  time: null,
  source: 's',
  id: '1',
  type: 't',
  subject: null,
  dataschema: null,
  datacontenttype: null,
  extensions: null,
  data: null,
  data_base64: null,
}

t.test('a page in JSON is an array, also without records', async (t) => {
  t.equal(String(toJson(page([]), 'record')), '[]')
  t.same(JSON.parse(String(toJson(page([1, 2]), 'record'))), [
    { id: '1', cursor: '' },
    { id: '2', cursor: '' },
  ])
})

t.test('a CloudEvent has none of the members that the server adds', async (t) => {
  t.equal(String(toJson(page([1, 2]), 'cloudevent')), '[{"id":"1"},{"id":"2"}]')
  const text = String(toJson({ ...page([]), records: [toFeedRecord(stored)] }, 'cloudevent'))
  t.same(Object.keys(JSON.parse(text)[0]), ['specversion', 'source', 'id', 'type', 'time'])
})

t.test('the offset of a record is its cursor', async (t) => {
  const record = toFeedRecord(stored)
  const [written] = JSON.parse(String(toJson({ ...page([]), records: [record] }, 'record')))
  t.equal(written.cursor, record.offset)
  t.equal(record.offset, offsetOf(1))
})

t.test('each record is a line, and a page without records is an empty line', async (t) => {
  t.same(await textsOf(toLines(each([page([1, 2]), page([]), page([3])]))), [
    '{"id":"1","cursor":""}\n{"id":"2","cursor":""}\n',
    '\n',
    '{"id":"3","cursor":""}\n',
  ])
})

t.test('a payload with line breaks stays on one line, and has the same value', async (t) => {
  const data = '{\r\n  "a": "x\\ny\u2028",\r  "b": [1,\n\n2]\n}'
  const one = { ...page([]), records: [toFeedRecord({ ...stored, data })] }
  const [line = ''] = await textsOf(toLines(each([one])))
  t.match(line, /^[^\r\n]+\n$/)
  t.same(JSON.parse(line).data, { a: 'x\ny\u2028', b: [1, 2] })
  const [, text = ''] = await events(one)
  const [event] = parseEvents(text)
  t.same(JSON.parse(event?.data as string)[0].data, { a: 'x\ny\u2028', b: [1, 2] })
  t.notMatch(text, /\r/)
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
