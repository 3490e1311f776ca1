import t from 'tap'
import { check, type Verdict } from '../../scripts/durability/checker.ts'
import { isBad, type Plan, planOf } from '../../scripts/durability/plans.ts'
import { contentOf, idOf, SPAN } from '../../scripts/durability/records.ts'
import { makeMessages } from '../../scripts/durability/requests.ts'
import { type ClientResponse, readResponse } from '../../scripts/durability/responses.ts'
import { complaintsOf, type Result } from '../../scripts/durability/run.ts'
import { type Fields, parseExactly, recognise, recogniseShown, type Stored } from '../../scripts/durability/stored.ts'
import { encodeOffset } from '../../src/lib/offset.ts'

// Each test gives the checker a run that must fail, as HTTP responses and rows of the table, and checks its complaint.

/** The numbers of requests with these properties. Requests with an odd number have rivals. */
const SINGLE = find(({ format, keyed, bad }) => format === 'object' && !keyed && !bad)
const ARRAY = find(
  ({ format, keyed, strict, bad, minimal }) => format === 'array' && !keyed && !strict && !bad && !minimal,
)
const STRICT = find(({ format, keyed, strict, bad }) => format === 'array' && !keyed && !!strict && !bad)
const BAD = find(({ format, strict, bad }) => format === 'array' && !strict && !!bad)
const STRICT_BAD = find(({ strict, bad }) => !!strict && !!bad)
const MINIMAL = find(({ minimal, strict }) => !!minimal && !strict)
const LINES = find(({ large }) => !!large)
const BAD_LINES = find(({ format, bad }) => format === 'lines' && !!bad)
const BYTES = find(({ format }) => format === 'binary-bytes')
const KEYED = find(({ format, keyed }) => format === 'object' && !!keyed)
const [SAME, DIFFERENT, RIVAL_STRICT] = [1, 3, 5]

function find(wanted: (plan: Plan) => boolean): number {
  for (let request = 0; request < 1_000; request += 2) if (wanted(planOf(request))) return request
  throw new Error('there is no such plan')
}

const numbersOf = (request: number) =>
  Array.from({ length: planOf(request).count }, (_, index) => request * SPAN + index)
const goodOf = (request: number) => numbersOf(request).filter((number) => !isBad(request, number % SPAN))
const cursorOf = (number: number) => encodeOffset({ epoch: 1, xid: '1', n: number })

/** Each request is sent after the previous response, unless requests have the same `at`. */
let clock = 0

interface Options {
  variant?: number
  at?: number
}

function response(
  request: number,
  status: number | undefined,
  body: object,
  { variant = 0, at }: Options = {},
): ClientResponse {
  const message = makeMessages(request, 'source').find((one) => one.variant === variant)
  if (message === undefined) throw new Error('there is no such variant')
  const begun = at ?? clock++
  const { numbers, plan } = message
  const base = { request, variant, strict: plan.strict === true, numbers, begun, ended: begun + 0.5, unsent: false }
  if (status !== undefined) return { ...base, status, ...readResponse(message, status, body) }
  return { ...base, claims: numbers.map(() => 'nothing'), cursors: [], contradictions: [] }
}

const noResponse = (request: number, options?: Options) => response(request, undefined, {}, options)

/** @param statuses one for all records, or one per record */
function results(
  request: number,
  statuses: string | string[],
  options: Options & { status?: number } = {},
): ClientResponse {
  const message = makeMessages(request, 'source').find(({ variant }) => variant === (options.variant ?? 0))
  const numbers = message?.numbers ?? []
  const outcomes = typeof statuses === 'string' ? numbers.map(() => statuses) : statuses
  const counts = { created: 0, duplicate: 0, conflict: 0, rejected: 0 }
  for (const status of outcomes) counts[status as keyof typeof counts]++
  const list = numbers.map((number, index) => ({
    index,
    id: idOf(number),
    status: outcomes[index],
    ...(outcomes[index] === 'rejected' ? {} : { cursor: cursorOf(number) }),
  }))
  const refused = counts.conflict + counts.rejected
  const status = options.status ?? (refused > 0 ? 207 : counts.created > 0 ? 201 : 200)
  return response(request, status, { counts, results: list }, options)
}

const problem = (request: number, status: number, code: string, more: object = {}, options?: Options) =>
  response(request, status, { code, outcome: 'not_written', ...more }, options)

/** Two strict batches of six records. They have the records 3, 4 and 5 in common, with different content, so one is refused. */
const winner = () => results(RIVAL_STRICT, 'created', { at: 2_000 })
const loser = () =>
  problem(
    ...([RIVAL_STRICT, 409, 'conflict'] as const),
    // Its records are in reverse order.
    { errors: [3, 4, 5].map((index) => ({ index, code: 'conflict' })) },
    { variant: 1, at: 2_000 },
  )

/** The report of a line stream. */
const lines = (
  request: number,
  status: number,
  created: number,
  duplicate: number,
  more: object = {},
  options?: Options,
) => {
  const all = numbersOf(request).length
  const counts = { created, duplicate, conflict: 0, rejected: 0 }
  return response(request, status, { counts, lines: all, committedLines: all, rejections: [], ...more }, options)
}

/** A row of the table. */
function row(number: number, variant = 0, change: Partial<Fields> = {}, cursor = cursorOf(number)): Stored {
  return recognise({ ...fieldsOf(number, variant), ...change }, cursor)
}

function fieldsOf(number: number, variant = 0): Fields {
  const { time, ...content } = contentOf(number, variant)
  return { id: idOf(number), ...content, time: time?.utc }
}

const rowsOf = (request: number, variant = 0) => goodOf(request).map((number) => row(number, variant))

/** @param shown what an observer saw. @param wrong its other wrong responses */
const judge = (responses: ClientResponse[], rows: Stored[], shown = rows, wrong: string[] = []): Verdict =>
  check({ responses, rows, observers: [{ name: 'list', shown, wrong }] })

const NONE = { missing: 0, twice: 0, altered: 0, wrong: 0, shown_twice: 0, never_shown: 0, misread: 0 }

/** Asserts that the verdict has these counts and no others, and that its first example matches. */
function complains(t: Tap, verdict: Verdict, counts: Partial<Verdict>, example: RegExp, name: string): void {
  t.match(verdict, { ...NONE, ...counts }, name)
  t.match(verdict.examples[0], example, `${name}: example`)
}
type Tap = Pick<typeof t, 'match'>

t.test('a run that keeps every promise has no complaint', async (t) => {
  const responses = [
    results(SINGLE, 'created'),
    noResponse(ARRAY),
    results(ARRAY, 'duplicate'),
    problem(STRICT, 503, 'database_unavailable'),
    results(STRICT, 'created'),
    results(
      BAD,
      numbersOf(BAD).map((_, index) => (isBad(BAD, index) ? 'rejected' : 'created')),
    ),
    problem(STRICT_BAD, 422, 'strict_refused', { errors: [{ index: 2, code: 'invalid_time' }] }),
    response(MINIMAL, 201, { counts: { created: 7, duplicate: 0, conflict: 0, rejected: 0 }, results: [] }),
    response(LINES, 503, {
      ...{ code: 'database_unavailable', outcome: 'unknown', lines: 400, committedLines: 150, rejections: [] },
      counts: { created: 150, duplicate: 0, conflict: 0, rejected: 0 },
    }),
    lines(LINES, 201, 250, 150),
    lines(BAD_LINES, 207, 24, 0, {
      counts: { created: 24, duplicate: 0, conflict: 0, rejected: 1 },
      rejections: [{ line: 13, code: 'invalid_time' }],
    }),
    results(BYTES, 'created'),
    results(KEYED, 'created'),
    // Rivals that are sent at the same time: with equal content, with different content, and strict.
    results(SAME, 'created', { at: 1_000 }),
    lines(SAME, 200, 0, 8, {}, { at: 1_000 }),
    results(DIFFERENT, ['created', 'created', 'conflict', 'conflict', 'conflict'], { at: 1_000 }),
    results(DIFFERENT, ['created', 'created', 'created', 'conflict', 'conflict'], { variant: 1, at: 1_000 }),
    winner(),
    loser(),
  ]
  const rows = [
    ...[SINGLE, ARRAY, STRICT, BAD, MINIMAL, LINES, BAD_LINES, BYTES, KEYED, SAME].flatMap((request) =>
      rowsOf(request),
    ),
    ...numbersOf(DIFFERENT).map((number, index) => row(number, index < 2 ? 0 : 1)),
    ...rowsOf(RIVAL_STRICT),
  ].sort((one, other) => (one.cursor < other.cursor ? -1 : 1))
  const verdict = judge(responses, rows)
  t.match(verdict, { ...NONE, stored: rows.length, acknowledged: rows.length, errors: 3, unsent: 0 })
  t.equal(verdict.refused, 2 + 3 + numbersOf(STRICT_BAD).length)
  t.equal(verdict.sent, verdict.acknowledged + verdict.refused)
})

t.test('a record that is missing or stored twice is found', async (t) => {
  complains(
    t,
    judge([results(ARRAY, 'created')], rowsOf(ARRAY).slice(1)),
    { missing: 1 },
    /acknowledged, but not stored/,
    'created',
  )
  complains(
    t,
    judge([noResponse(SINGLE), results(SINGLE, 'duplicate')], []),
    { missing: 1 },
    /not stored/,
    'a duplicate',
  )
  const some = rowsOf(LINES).slice(1)
  complains(t, judge([lines(LINES, 201, 400, 0)], some), { missing: 1 }, /acknowledged, but not stored/, 'a line')
  const again = row(numbersOf(SINGLE)[0] as number, 0, {}, cursorOf((numbersOf(SINGLE)[0] as number) + 1))
  const twice = [...rowsOf(SINGLE), again]
  complains(t, judge([results(SINGLE, 'created')], twice, [again]), { twice: 1 }, /stored 2 times/, 'the same id')
})

t.test('a record that is stored with any field altered is found', async (t) => {
  const seen = new Set<string>()
  for (const number of [ARRAY, BYTES, LINES].flatMap(goodOf).slice(0, 60)) {
    const responses = [results(Math.floor(number / SPAN), 'created')]
    const others = goodOf(Math.floor(number / SPAN)).filter((one) => one !== number)
    const fields = fieldsOf(number)
    for (const name of Object.keys(fields) as (keyof Fields)[]) {
      if (fields[name] === undefined || name === 'id' || seen.has(name)) continue
      if (name === 'extensions' && Object.keys(fields.extensions).length === 0) continue
      seen.add(name)
      const change = { [name]: name === 'extensions' ? {} : undefined }
      const rows = [row(number, 0, change), ...others.map((one) => row(one))]
      complains(
        t,
        judge(responses, rows, []),
        { altered: 1, never_shown: rows.length },
        new RegExp(`${name} is`),
        `no ${name}`,
      )
    }
  }
  t.strictSame([...seen].sort(), [
    ...['data', 'data_base64', 'datacontenttype', 'dataschema', 'extensions', 'subject', 'time', 'type'],
  ])
})

t.test('payloads are compared as text, with all digits, white space and repeated names', async (t) => {
  const number = numbersOf(SAME)[0] as number
  const { data } = fieldsOf(number) as { data: string }
  const changes: [string, RegExp, string][] = [
    ['a digit', /(?<="long":)\d+/, '1234567890123456800'],
    ['the sign of zero', /-0(?=,)/, '0'],
    ['white space', / /, ''],
    ['a repeated name', /"again":1,/, ''],
    ['an escape', /\\u0001/, '\\u0002'],
  ]
  for (const [name, from, to] of changes) {
    t.match(data, from)
    t.match(row(number, 0, { data: data.replace(from, to) }), { variant: undefined, difference: /^data is/ }, name)
  }
})

t.test('a record that a reader gets is compared in full as well', async (t) => {
  const number = numbersOf(SAME)[0] as number
  const { extensions, time = '2026-01-01T00:00:00Z', ...fields } = fieldsOf(number)
  const show = (change: object, data = fields.data) => {
    const record = {
      specversion: '1.0',
      source: 's',
      ...fields,
      time,
      ...extensions,
      receivedAt: '2026-01-01T00:00:00Z',
    }
    const text = JSON.stringify({ ...record, cursor: cursorOf(number), data: 'DATA', ...change })
    return recogniseShown(parseExactly(text.replace('"DATA"', data as string)) as never)
  }
  t.match(show({}), { number, variant: 0, difference: undefined })
  t.match(show({ type: 'other' }), { difference: /^type is/ })
  t.match(show({ more: 'of it' }), { difference: /^extensions is/ })
  t.match(show({ specversion: '0.3' }), { difference: 'specversion or receivedAt' })
  t.match(show({}, (fields.data as string).replace(/(?<="long":)\d+/, '1234567890123456800')), {
    difference: /^data is/,
  })
})

t.test('a strict batch that is half stored is found', async (t) => {
  const [half, all] = [rowsOf(STRICT).slice(0, 3), rowsOf(STRICT)]
  complains(
    t,
    judge([noResponse(STRICT)], half),
    { wrong: 1 },
    /3 of 6 records of a strict batch/,
    'after a lost response',
  )
  const unknown = problem(STRICT, 503, 'database_unavailable', { outcome: 'unknown' })
  complains(t, judge([unknown], half), { wrong: 1 }, /strict batch/, 'with an unknown outcome')
  for (const rows of [[], all]) t.match(judge([noResponse(STRICT)], rows), NONE, 'all or nothing is allowed')
})

t.test('a refused request whose records are stored is found', async (t) => {
  const winners = rowsOf(RIVAL_STRICT)
  t.match(judge([winner(), loser()], winners), NONE)
  const half = [6, 7, 8].map((index) => row(RIVAL_STRICT * SPAN + index, 1))
  const verdict = judge([winner(), loser()], [...winners, ...half])
  complains(
    t,
    verdict,
    { wrong: 4 },
    /stored with content 1, but no response allows it/,
    '409, but the records without a conflict are stored',
  )
  const instead = numbersOf(RIVAL_STRICT).map((number, index) => row(number, 0 + Number(index > 3)))
  complains(
    t,
    judge([winner(), loser()], instead),
    { missing: 2, wrong: 6 },
    /no response allows it/,
    '409, but some records with a conflict are stored',
  )

  const refused = problem(STRICT_BAD, 422, 'strict_refused', { errors: [{ index: 2, code: 'invalid_time' }] })
  const others = rowsOf(STRICT_BAD)
  complains(
    t,
    judge([refused], others),
    { wrong: others.length + 1 },
    /no response allows it/,
    '422, but the valid records are stored',
  )
  const unavailable = problem(SINGLE, 503, 'database_unavailable')
  complains(
    t,
    judge([unavailable], rowsOf(SINGLE)),
    { wrong: 1 },
    /no response allows it/,
    '503 not_written, but the record is stored',
  )
  const report = { code: 'database_unavailable', outcome: 'not_written', committedLines: 0 }
  const first = rowsOf(LINES).slice(0, 150)
  complains(
    t,
    judge([lines(LINES, 503, 0, 0, report)], first),
    { wrong: 150 },
    /no response allows it/,
    '503 not_written, but the first lines are stored',
  )
})

t.test('an invalid record that is stored and a valid record that is rejected are found', async (t) => {
  const bad = numbersOf(BAD).find((number) => isBad(BAD, number % SPAN)) as number
  const rows = numbersOf(BAD).map((number) => row(number))
  complains(
    t,
    judge([results(BAD, 'created')], rows),
    { wrong: 2 },
    new RegExp(`${idOf(bad)}: stored`),
    'an invalid record',
  )
  complains(
    t,
    judge([results(SINGLE, 'rejected', { status: 422 })], []),
    { wrong: 1 },
    /rejected, but it is valid/,
    'a valid record',
  )
})

t.test('a 500 is found, whether its records are stored or not', async (t) => {
  for (const outcome of ['not_written', 'unknown']) {
    const responses = [problem(SINGLE, 500, 'internal_error', { outcome })]
    complains(t, judge(responses, []), { wrong: 1, errors: 1 }, /the status is 500/, outcome)
  }
  const responses = [problem(SINGLE, 500, 'internal_error')]
  complains(t, judge(responses, rowsOf(SINGLE)), { wrong: 2, errors: 1 }, /no response allows it/, 'stored')
})

t.test('two responses that say that they created the same record are found', async (t) => {
  const rows = rowsOf(SAME)
  const both = [results(SAME, 'created', { at: 3_000 }), results(SAME, 'created', { at: 3_000 })]
  complains(t, judge(both, rows), { wrong: rows.length }, /created more than once/, 'at the same time')
  const count = [results(SAME, 'created', { at: 3_000 }), lines(SAME, 201, 1, 7, {}, { at: 3_000 })]
  complains(
    t,
    judge(count, rows),
    { wrong: 1 },
    /counts 1 created, but the other responses allow 0 to 0/,
    'one of them in counts',
  )
  const after = [noResponse(SINGLE), results(SINGLE, 'duplicate'), results(SINGLE, 'created')]
  complains(
    t,
    judge(after, rowsOf(SINGLE)),
    { wrong: 1 },
    /created after it was acknowledged/,
    'after it was a duplicate',
  )
})

t.test('a stored record that no response says it created is found', async (t) => {
  const rows = rowsOf(SAME)
  const none = [results(SAME, 'duplicate', { at: 3_000 }), lines(SAME, 200, 0, 8, {}, { at: 3_000 })]
  t.match(judge(none, rows), { ...NONE, wrong: rows.length * 3 }, 'and no outcome is unknown')
  complains(
    t,
    judge([results(SINGLE, 'duplicate')], rowsOf(SINGLE)),
    { wrong: 2 },
    /no response allows it/,
    'a single response',
  )
  const some = response(MINIMAL, 201, { counts: { created: 3, duplicate: 4, conflict: 0, rejected: 0 }, results: [] })
  complains(
    t,
    judge([some], rowsOf(MINIMAL)),
    { wrong: 1 },
    /counts 3 created, but the other responses allow 7 to 7/,
    'in counts',
  )
})

t.test('a conflict needs a rival whose content is stored, and a success needs its own content', async (t) => {
  const alone = [results(SINGLE, 'conflict', { status: 409 })]
  complains(t, judge(alone, rowsOf(SINGLE)), { wrong: 2 }, /no response allows it/, 'with itself')
  complains(t, judge(alone, []), { wrong: 1 }, /a conflict, but nothing is stored/, 'with nothing')
  const rivals = [
    results(DIFFERENT, 'created', { at: 4_000 }),
    results(DIFFERENT, 'duplicate', { variant: 1, at: 4_000 }),
  ]
  complains(
    t,
    judge(rivals, rowsOf(DIFFERENT)),
    { missing: 5 },
    /acknowledged, but content 0 is stored/,
    'a duplicate of other content',
  )
})

t.test('a stored record that was never sent is found', async (t) => {
  complains(t, judge([], rowsOf(SINGLE)), { wrong: 1 }, /stored, but never sent/, 'with an id of the plan')
  const stray = recognise({ ...fieldsOf(0), id: 'stray' }, cursorOf(0))
  complains(t, judge([], [stray]), { wrong: 1, misread: 1 }, /stored, but never sent/, 'with another id')
})

t.test('a response that contradicts itself is found', async (t) => {
  const counts = { created: 1, duplicate: 0, conflict: 0, rejected: 0 }
  const [number] = numbersOf(SINGLE) as [number]
  const result = { index: 0, id: idOf(number), status: 'created', cursor: cursorOf(number) }
  const cases: [string, object, RegExp, number?][] = [
    [
      'counts of other results',
      { counts: { ...counts, created: 0, duplicate: 1 }, results: [result] },
      /other created records/,
    ],
    ['no result', { counts, results: [] }, /0 results for 1 records/, 2],
    ['another id', { counts, results: [{ ...result, id: 'x' }] }, /has the id x/],
    ['no cursor', { counts, results: [{ ...result, cursor: undefined }] }, /without a cursor/],
  ]
  for (const [name, body, example, wrong = 1] of cases) {
    complains(t, judge([response(SINGLE, 201, body)], rowsOf(SINGLE)), { wrong }, example, name)
  }
  const unexplained = judge([problem(STRICT, 422, 'strict_refused')], [])
  complains(t, unexplained, { wrong: 1 }, /refused without a reason/, 'a refusal without errors')
  const short = lines(LINES, 201, 400, 0, { committedLines: 390 })
  complains(
    t,
    judge([short], rowsOf(LINES)),
    { wrong: 2 },
    /status 201, but committedLines is 390 of 400/,
    'an incomplete stream',
  )
  const many = lines(LINES, 503, 300, 0, { code: 'draining', outcome: 'unknown', committedLines: 150 })
  complains(
    t,
    judge([many], rowsOf(LINES).slice(0, 250)),
    { wrong: 1 },
    /counts 300 stored, but 250 are/,
    'more counted than stored',
  )
})

t.test('a response with an unknown outcome cannot be wrong', async (t) => {
  for (const rows of [[], rowsOf(SINGLE)]) {
    t.match(judge([problem(SINGLE, 503, 'draining', { outcome: 'unknown' })], rows), { ...NONE, errors: 1 })
    t.match(judge([noResponse(SINGLE)], rows), { ...NONE, errors: 1 })
  }
})

t.test('a record that a reader gets twice, not at all, out of order or altered is found', async (t) => {
  const responses = [results(ARRAY, 'created')]
  const rows = rowsOf(ARRAY)
  const [first, second, ...rest] = rows as [Stored, Stored, ...Stored[]]
  const other = { ...first, cursor: cursorOf(99) }
  const cases: [string, Stored[], Partial<Verdict>, RegExp][] = [
    ['twice', [first, first, second, ...rest], { shown_twice: 1 }, /^list: record .*: shown twice/],
    ['left out', [first, ...rest], { never_shown: 1 }, /never shown/],
    ['the last left out', rows.slice(0, -1), { never_shown: 1 }, /never shown/],
    ['out of order', [second, first, ...rest], { misread: 1 }, /out of order/],
    ['with another cursor', [other, second, ...rest], { misread: 1 }, /shown with the cursor/],
    [
      'altered',
      [{ ...first, variant: undefined, difference: 'data is x' }, second, ...rest],
      { misread: 1 },
      /shown altered: data is x/,
    ],
    ['not stored', [...rows, row(numbersOf(SINGLE)[0] as number)], { misread: 1 }, /shown, but not stored/],
    ['nothing', [], { never_shown: rows.length }, /never shown/],
  ]
  for (const [name, shown, counts, example] of cases) complains(t, judge(responses, rows, shown), counts, example, name)
  complains(t, judge(responses, rows, rows, ['400: no']), { misread: 1 }, /^list: 400: no/, 'a refusal')
  const observers = ['list', 'lines'].map((name) => ({ name, shown: [first, ...rest], wrong: [] }))
  const both = check({ responses, rows, observers })
  complains(t, both, { never_shown: 2 }, /^list: record .*: never shown/, 'by two observers')

  const moved = rows.map((one, index) => (index === 0 ? other : one))
  complains(
    t,
    judge(responses, moved),
    { wrong: 1 },
    /the response has the cursor .*, but the record is stored with/,
    'the cursor in a response',
  )
})

t.test('each reason why a run fails has one complaint', async (t) => {
  const passing: Result = {
    ...judge([results(ARRAY, 'created')], rowsOf(ARRAY)),
    name: 'fault',
    title: 'a fault',
    copied: 1,
    copies_aimed: 1,
    copies_hit: 1,
    slowest_ms: 100,
    allowed_ms: 1_000,
    longest_ms: 100,
    unreachable: false,
    reconnects: 1,
    miscounted: 0,
  }
  t.same(complaintsOf(passing), [])
  const cases: [Partial<Result>, RegExp][] = [
    [{ missing: 1 }, /missing/],
    [{ twice: 1 }, /twice/],
    [{ altered: 1 }, /not stored as they were sent/],
    [{ wrong: 1 }, /wrong/],
    [{ shown_twice: 1 }, /shown to a reader twice/],
    [{ never_shown: 1 }, /never shown/],
    [{ misread: 1 }, /reads were wrong/],
    [{ reconnects: 0 }, /did not reconnect/],
    [{ miscounted: -1 }, /count 1 records too few/],
    [{ miscounted: 2 }, /count 2 records too many/],
    [{ slowest_ms: 1_001 }, /no response/],
    [{ sent: 0 }, /nothing was sent/],
    [{ copied: 0 }, /no row was copied/],
    [{ copies_hit: 0 }, /0 COPYs were interrupted instead of 1/],
    [{ errors: 1 }, /1 requests failed, but at most 0 may fail/],
    [
      { errors: 25, errors_allowed: 24, errors_because: 'one each' },
      /25 requests failed, but at most 24 may fail \(one each\)/,
    ],
    [{ unsent: 1 }, /1 connections were refused/],
  ]
  for (const [change, complaint] of cases) t.match(complaintsOf({ ...passing, ...change }), [complaint])
  for (const [change] of cases) t.equal(complaintsOf({ ...passing, ...change }).length, 1)
  t.same(complaintsOf({ ...passing, copies_aimed: 0, copies_hit: 0 }), [], 'no COPY had to be interrupted')
  t.same(complaintsOf({ ...passing, errors: 24, errors_allowed: 24 }), [])
  t.same(complaintsOf({ ...passing, unsent: 5, unreachable: true }), [], 'while the API is unreachable')
})
