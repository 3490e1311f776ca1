import t from 'tap'
import type { Key } from '../../src/access/key.ts'
import { checkQuery, readFeedFilter, readStart } from '../../src/feed/query.ts'
import { START_OFFSET } from '../../src/feed/read-page.ts'
import type { Problem, ProblemCode } from '../../src/problems.ts'
import type { FeedQuery } from '../../src/schemas/feed.ts'
import { offsetOf } from '../helpers/feed.ts'

const key = { id: 'k', sourcePrefixes: ['shop'] } as unknown as Key

const refusal = (code: ProblemCode, pointer: string) => ({ code, errors: [{ pointer }] })

function problemOf(work: () => unknown): Problem | undefined {
  try {
    work()
    return undefined
  } catch (error) {
    return error as Problem
  }
}

t.test('a filter contains what the query selects, and the prefixes of the key', async (t) => {
  t.same(readFeedFilter({}, key).selection, {
    source: undefined,
    sourcePrefix: undefined,
    types: undefined,
    subject: undefined,
    allowedPrefixes: ['shop'],
  })
  const query = { source: 'shop/1', sourcePrefix: 's', type: ['a', 'b'], subject: 'x', offset: '-1', limit: 5 }
  t.same(readFeedFilter(query, key).selection, {
    source: 'shop/1',
    sourcePrefix: 's',
    types: ['a', 'b'],
    subject: 'x',
    allowedPrefixes: ['shop'],
  })
})

t.test('a filter with U+0000, which PostgreSQL cannot compare, is refused', async (t) => {
  for (const [name, query] of [
    ['source', { source: 'a\0' }],
    ['sourcePrefix', { sourcePrefix: '\0' }],
    ['type', { type: ['a', 'b\0'] }],
    ['subject', { subject: 'a\0b' }],
  ] as [string, FeedQuery][])
    t.match(
      problemOf(() => readFeedFilter(query, key)),
      refusal('invalid_query', name),
      name,
    )
})

t.test('a reader begins at the start, at the head, or after an offset', async (t) => {
  t.equal(readStart({}, undefined), START_OFFSET)
  t.equal(readStart({ offset: '-1' }, undefined), START_OFFSET)
  t.equal(readStart({ offset: 'now' }, undefined), 'now')
  t.equal(readStart({ offset: offsetOf(5) }, undefined), offsetOf(5))
  t.equal(readStart({ offset: START_OFFSET }, undefined), START_OFFSET)
  t.equal(readStart({ live: 'true' }, undefined), START_OFFSET, 'lines without an offset')
})

t.test('long-poll and sse need an offset', async (t) => {
  for (const live of ['long-poll', 'sse'] as const) {
    t.match(
      problemOf(() => readStart({ live }, undefined)),
      refusal('invalid_query', 'offset'),
      live,
    )
    t.equal(readStart({ live, offset: 'now' }, undefined), 'now', live)
  }
})

t.test('an offset that this service did not make is refused', async (t) => {
  const offset = offsetOf(5)
  const last = offset.endsWith('0') ? '1' : '0'
  for (const [name, wrong] of [
    ['empty', ''],
    ['the number zero', '0'],
    ['another negative number', '-2'],
    ['another case', 'NOW'],
    ['tampered', offset.slice(0, -1) + last],
    ['with another position', offset.slice(0, 30) + (offset[30] === '0' ? '1' : '0') + offset.slice(31)],
    ['of a later version', `2${offset.slice(1)}`],
    ['in upper case', offsetOf(0xabcdef).toUpperCase()],
    ['too short', offset.slice(0, -2)],
    ['too long', `${offset}00`],
    ['with a space', ` ${offset}`],
    ['of another service', '0000000000000000_0000000000000042'],
    ['an earlier cursor, in base64url', 'AAAAAQAAAAAAAAABAAAAAAAAAAUAAAAA'],
    ['null', 'null'],
  ] as const) {
    t.match(
      problemOf(() => readStart({ offset: wrong }, undefined)),
      refusal('invalid_offset', 'offset'),
      name,
    )
    if (wrong === '') continue
    const resume = () => readStart({ offset, live: 'sse' }, wrong)
    t.match(problemOf(resume), refusal('invalid_offset', 'Last-Event-ID'), `Last-Event-ID: ${name}`)
  }
})

t.test('Last-Event-ID wins over the offset, and only for sse', async (t) => {
  const query = { offset: offsetOf(1) }
  t.equal(readStart({ ...query, live: 'sse' }, offsetOf(5)), offsetOf(5))
  t.equal(readStart({ live: 'sse' }, offsetOf(5)), offsetOf(5), 'without an offset')
  t.equal(readStart({ offset: 'damaged', live: 'sse' }, offsetOf(5)), offsetOf(5), 'the offset does not matter')
  t.equal(readStart({ ...query, live: 'sse' }, ''), offsetOf(1), 'an EventSource that has no id yet')
  for (const live of [undefined, 'long-poll', 'true'] as const)
    t.equal(readStart({ ...query, ...(live && { live }) }, offsetOf(5)), offsetOf(1), `${live}`)
})

t.test('each parameter is refused where it has no effect', async (t) => {
  const LIVE = [undefined, 'long-poll', 'sse', 'true'] as const
  const allowed = (query: object) =>
    LIVE.flatMap((live) =>
      [false, true].flatMap((isLines) =>
        problemOf(() => checkQuery({ ...query, ...(live && { live }) }, isLines)) === undefined
          ? [`${live ?? 'page'}${isLines ? ', lines' : ''}`]
          : [],
      ),
    )
  const all = ['page', 'page, lines', 'long-poll', 'long-poll, lines', 'sse', 'sse, lines', 'true, lines']
  t.same(allowed({}), all)
  t.same(allowed({ limit: 5 }), ['page', 'long-poll'])
  t.same(allowed({ timeout: 0 }), ['long-poll', 'long-poll, lines'])
  for (const [query, name] of [
    [{ live: 'true' }, 'live'],
    [{ live: 'sse', timeout: 1 }, 'timeout'],
    [{ timeout: 1 }, 'timeout'],
    [{ live: 'sse', limit: 1 }, 'limit'],
  ] as const)
    t.match(
      problemOf(() => checkQuery(query, false)),
      refusal('invalid_query', name),
      name,
    )
})
