import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { setImmediate as nextIteration } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import t from 'tap'
import type { Key } from '../../src/access/key.ts'
import { makeDefaults } from '../../src/ingest/defaults.ts'
import { ingestLines, type LinesResponse } from '../../src/ingest/ingest-lines.ts'
import { type Admit, STREAM_BYTES } from '../../src/ingest/line-chunks.ts'
import { RecordTotals } from '../../src/ingest/record-totals.ts'
import { Problem } from '../../src/problems.ts'
import { Writer } from '../../src/writer/writer.ts'
import { stopClock, turn } from '../helpers/clock.ts'
import { createMemoryStore, GUILTY, type MemoryStore, type StoreCall, sqlError } from '../helpers/memory-store.ts'
import { makeRow } from '../helpers/rows.ts'
import { until } from '../helpers/until.ts'

const KEY: Key = {
  id: 'k',
  name: 'k',
  scopes: ['ingest'],
  sourcePrefixes: [],
  recordsPerSecond: null,
  expiresAt: null,
  revokedAt: null,
}
const limits = { maxRecordBytes: 1024, maxBatchRecords: 10 }

/** Longer than any machine needs: no hold window ends, unless the test is about that. */
const HOLD_MS = 600_000

/** Stores these chunks as a stream of lines. @returns the response or the problem, with the report */
async function send(
  body: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  store: MemoryStore,
  {
    key = KEY,
    idempotencyKey,
    holdMs = HOLD_MS,
    reserve = () => {},
    stop = new AbortController().signal,
    admit = async () => {},
  }: {
    key?: Key
    idempotencyKey?: string
    holdMs?: number
    reserve?: (bytes: number) => void
    stop?: AbortSignal
    admit?: Admit
  } = {},
) {
  const writer = new Writer(store, { maxRows: 2000, maxBytes: 4 * 1024 * 1024, concurrency: 2, holdMs })
  const totals = new RecordTotals()
  const request = {
    key,
    limits,
    stop,
    totals,
    reserve,
    admit,
    defaults: makeDefaults(idempotencyKey, undefined)(false),
  }
  const stream = Readable.from(body, { objectMode: false, highWaterMark: 65536 })
  const response = await ingestLines(stream, writer, request).then(
    (response: LinesResponse) => ({
      status: response.status as number,
      code: undefined,
      report: JSON.parse(response.body),
    }),
    (problem: Problem) => {
      if (problem.name !== 'Problem') throw problem
      return {
        status: problem.status,
        code: problem.code,
        outcome: problem.outcome,
        cause: problem.cause,
        report: problem.extra,
      }
    },
  )
  // In every case, /metrics counts the same lines as the report.
  assert.deepEqual(totals.counts, response.report.counts)
  // The next flush ends the outage.
  if (response.code === 'database_unavailable') {
    const rows = [makeRow({ type: 'after' })]
    writer.submit({ key: 'k', rows, bytes: 1, strict: false }, () => {})
  }
  await writer.close()
  // biome-ignore lint/suspicious/noExplicitAny: the report's fields are what the tests are about
  return response as { status: number; code: string | undefined; outcome?: string; cause?: unknown; report: any }
}

const commitAll = () => createMemoryStore((call) => call.commit())
const line = (id: string | number, more = '') => `{"source":"s","type":"t","id":"${id}"${more}}`
const storedIds = (store: MemoryStore) => [...store.stored.values()].map(({ row }) => row.id)

// — chunks that fail in different ways —

// Chunk 2 failed first, and nothing of it was written. The response said `not_written`, although chunk 1 was committed.
t.test('if one of several failed chunks may be written, the outcome is unknown, whichever fails first', async (t) => {
  stopClock(t)
  // Both chunks are full, so that the second one is written at once, beside the first.
  const full = (name: string) =>
    Buffer.from(Array.from({ length: 2000 }, (_, n) => `${line(`${name} ${n}`)}\n`).join(''))
  const unwritten = (call: StoreCall) => call.fail(sqlError('53300'))
  const written = (call: StoreCall) => call.commitAndFail(sqlError('57P01'))
  for (const order of [
    ['second', 'first'],
    ['first', 'second'],
  ]) {
    const calls = new Map<string, StoreCall>()
    const store = createMemoryStore(async (call) => {
      if (call.rows[0]?.type === 'after') return call.commit()
      calls.set(call.rows[0]?.id.startsWith('first') ? 'first' : 'second', call)
      if (calls.size < 2) return
      for (const name of order) {
        await nextIteration()
        ;(name === 'first' ? written : unwritten)(calls.get(name) as StoreCall)
      }
    })
    const response = await send([full('first'), full('second')], store, { holdMs: 0 })
    t.match(response, { status: 503, outcome: 'unknown' }, `the ${order[0]} chunk fails first`)
    t.match(response.report, { committedLines: 0, counts: { created: 0 } })
    t.equal(storedIds(store).filter((id) => id.startsWith('first')).length, 2000)
  }
})

// — chunks and lines —

const MIXED = Buffer.from(
  [
    line('caf\u00e9 \u{1f980}', ',"data":{"text":"\u{1f980}\u00e9","n":0.10}'),
    `${line(2)}\r`,
    '',
    ' \t\r',
    '{"source":"s"}\r',
    '{broken',
    line(7, `,"data":"${'x'.repeat(2000)}"`),
    line(8),
  ].join('\n'),
)

t.test('a body cut into two chunks at any byte gives the same rows and the same report', async (t) => {
  for (const body of [
    MIXED,
    Buffer.concat([MIXED, Buffer.from('\n')]),
    Buffer.concat([MIXED, Buffer.from('\r\n\r\n')]),
  ]) {
    const whole = commitAll()
    const expected = await send([body], whole)
    t.match(expected, {
      status: 207,
      report: {
        counts: { created: 3, duplicate: 0, conflict: 0, rejected: 3 },
        rejections: [
          { line: 5, source: 's', pointer: '/type', code: 'required' },
          { line: 6, pointer: '', code: 'invalid_json' },
          { line: 7, pointer: '', code: 'record_too_large' },
        ],
      },
    })
    const firstTwo = (report: { rejections: unknown[] }) => ({ ...report, rejections: report.rejections.slice(0, 2) })
    for (let at = 0; at <= body.length; at++) {
      const store = commitAll()
      const found = await send([body.subarray(0, at), body.subarray(at)], store)
      assert.equal(found.status, 207)
      // The source and id of a line that is dropped while it arrives are not read.
      assert.deepEqual(firstTwo(found.report), firstTwo(expected.report), `at ${at}`)
      assert.equal(found.report.rejections[2].line, 7)
      assert.equal(found.report.rejections[2].code, 'record_too_large')
      const rowsOf = ({ stored }: MemoryStore) => [...stored.values()].map(({ row }) => row)
      assert.deepEqual(rowsOf(store), rowsOf(whole), `at ${at}: rows`)
    }
  }
})

t.test('any body in any chunks gets the same response as in one chunk', async (t) => {
  const piece = fc.oneof(
    fc.nat({ max: 30 }).map((id) => line(id)),
    fc.nat({ max: 30 }).map((id) => line(id, ',"data":"\u{1f980}"')),
    fc.constantFrom(
      '',
      '\r',
      '{',
      '[]',
      '5',
      '[{},{}]',
      '\ufeff',
      line('g').replace('"t"', `"${GUILTY}"`),
      `${line('cr')}\r`,
    ),
    fc.string({ unit: 'grapheme', maxLength: 8 }),
  )
  await fc.assert(
    fc.asyncProperty(
      fc.array(piece, { maxLength: 20 }),
      fc.array(fc.nat(), { maxLength: 8 }),
      async (pieces, offsets) => {
        const body = Buffer.from(pieces.join('\n'))
        const cuts = [0, ...offsets.map((offset) => offset % (body.length + 1)).sort((a, b) => a - b), body.length]
        const chunks = cuts.slice(1).map((end, at) => body.subarray(cuts[at], end))
        const [whole, cut] = [commitAll(), commitAll()]
        const [expected, found] = [await send([body], whole), await send(chunks, cut)]
        assert.deepEqual(found, expected)
        assert.deepEqual(storedIds(cut), storedIds(whole))
      },
    ),
    { numRuns: 100 },
  )
  t.pass('100 bodies')
})

// In files that some Windows programs write, the first line was rejected, and all others were stored.
t.test('a byte order mark is ignored before the first line, and rejected before any other', async (t) => {
  const store = commitAll()
  const mark = '\ufeff'
  const { report } = await send([Buffer.from(`${mark}${line(1)}\n${mark}${line(2)}\n${line(3)}`)], store)
  t.same(storedIds(store), ['1', '3'])
  t.match(report, { rejections: [{ line: 2, code: 'invalid_json' }] })
  t.match(await send([Buffer.from(`${mark}\n`)], store), { status: 200, report: { lines: 1 } })
})

t.test('a line that is not UTF-8 is rejected, and its neighbours are stored', async (t) => {
  const store = commitAll()
  const bad = Buffer.concat([
    Buffer.from('{"source":"s","type":"t","data":"'),
    Buffer.from([0xc3, 0x28]),
    Buffer.from('"}\n'),
  ])
  const { status, report } = await send(
    [Buffer.concat([Buffer.from(`${line('\u00e9')}\n`), bad, Buffer.from(line(3))])],
    store,
  )
  t.equal(status, 207)
  t.match(report.rejections, [{ line: 2, code: 'invalid_utf8', pointer: '' }])
  t.same(storedIds(store), ['\u00e9', '3'])
})

t.test('a body without lines, or with only blank lines, gets 200 and stores nothing', async (t) => {
  for (const body of ['', '\n', '\r\n\r\n', '  \n\t']) {
    const { status, report } = await send([Buffer.from(body)], commitAll())
    t.equal(status, 200, JSON.stringify(body))
    t.match(report, { counts: { created: 0, rejected: 0 }, rejections: [], rejectionsOmitted: 0 })
    t.equal(report.lines, report.committedLines)
  }
})

t.test('a missing id is made of the Idempotency-Key and the number of the line, from 0', async (t) => {
  const store = commitAll()
  const body = Buffer.from(`{"source":"s","type":"t"}\n\n${line('own')}\n{"source":"s","type":"t"}`)
  t.equal((await send([body], store, { idempotencyKey: 'k' })).status, 201)
  t.same(storedIds(store), ['k.0', 'own', 'k.3'])
  const again = await send([body], store, { idempotencyKey: 'k' })
  t.match(again, { status: 200, report: { counts: { duplicate: 3 } } })
})

// The second line waited until the sender sent more, or had stalled for so long that it was cut off. Until then, the memory of
// the first line, which was already stored, stayed reserved, so that other requests were refused.
t.test('a line that arrives while another is being written is stored without waiting for more lines', async (t) => {
  const store = createMemoryStore()
  const [second, end] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  async function* body() {
    yield Buffer.from(`${line('1')}\n`)
    await second.promise
    yield Buffer.from(`${line('2')}\n`)
    await end.promise
  }
  const response = send(body(), store)
  const first = await store.next()
  second.resolve()
  await untilStable(() => store.calls.length)
  t.equal(store.calls.length, 1, 'one flush at a time')
  first.commit()
  const next = await store.next()
  next.commit()
  end.resolve()
  t.match(await response, { status: 201, report: { counts: { created: 2 }, committedLines: 2 } })
})

// — memory —

t.test('while the database is busy, a stream reads little more than it may hold', async (t) => {
  const store = createMemoryStore()
  const text = Buffer.from(
    `${Array.from({ length: 60 }, (_, n) => line(`0000${n}`, `,"data":"${'x'.repeat(900)}"`)).join('\n')}\n`,
  )
  let [read, sent] = [0, 0]
  const CHUNKS = 400
  function* body() {
    for (; sent < CHUNKS; sent++) {
      read += text.length
      yield Buffer.from(text.toString().replaceAll('"0000', `"${sent}/`))
    }
  }
  const response = send(body(), store)
  const calls = [await store.next(), await store.next()]
  await untilStable(() => read)
  t.equal(store.calls.length, 2, 'two flushes are running')
  // In addition: the piece that filled the last chunk, and the pieces that were read ahead.
  t.ok(read < STREAM_BYTES + 4 * text.length, `${read} of ${CHUNKS * text.length} bytes were read`)

  // After one flush is committed, the stream reads as much again as it held, and no more.
  const before = read
  calls[0]?.commit()
  await untilStable(() => read)
  t.ok(read > before, 'reading continues')
  t.ok(read < STREAM_BYTES + 2 * 1024 * 1024, `${read} bytes`)

  calls[1]?.commit()
  endWith(store, (call) => call.commit())
  t.match(await response, {
    status: 201,
    report: { counts: { created: CHUNKS * 60 }, lines: CHUNKS * 60, committedLines: CHUNKS * 60 },
  })
  t.equal(read, CHUNKS * text.length)
})

// Characters were counted as if they were bytes: Chinese text took three times as much memory as was reserved.
t.test('the memory of a stream is counted in bytes, not in characters', async (t) => {
  const store = createMemoryStore()
  const text = Buffer.from(`${line('0000', `,"data":"${'\u8a9e'.repeat(300)}"`)}\n`.repeat(60))
  let [read, held] = [0, 0]
  function* body() {
    for (let n = 0; n < 200; n++) {
      read += text.length
      yield text
    }
  }
  const reserve = (bytes: number) => {
    held = bytes
  }
  const response = send(body(), store, { reserve })
  const calls = [await store.next(), await store.next()]
  await untilStable(() => read)
  t.ok(held > 0.9 * STREAM_BYTES, `${held} bytes are held`)
  t.ok(read < STREAM_BYTES + 4 * text.length, `${read} bytes were read`)

  for (const call of calls) call.commit()
  endWith(store, (call) => call.commit())
  t.match(await response, { report: { committedLines: 200 * 60 } })
})

// Each stream kept the memory of its chunks until its end: ten MiB, of which only the 64 KiB of its next piece were reserved.
t.test('idle streams do not keep the memory of the chunks that were stored', async (t) => {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const buffers = () => {
    gc()
    return process.memoryUsage().arrayBuffers
  }
  const store = commitAll()
  const text = Buffer.from(`${line('0', `,"data":"${'x'.repeat(900)}"`)}\n`.repeat(60))
  const before = buffers()
  const end = Promise.withResolvers<void>()
  async function* body() {
    for (let n = 0; n < 100; n++) yield text
    await end.promise
  }
  const responses = Array.from({ length: 20 }, () => send(body(), store))
  const rows = () => store.calls.reduce((sum, { rows }) => sum + rows.length, 0)
  await until('all lines to be stored', () => rows() === 20 * 6000)
  // Unused memory is freed on other threads, a little later.
  await until('all but 16 MiB to be freed', () => buffers() - before < 16 * 1024 * 1024)

  end.resolve()
  for (const response of responses) t.match(await response, { report: { committedLines: 6000 } })
})

/** Resolves when a number no longer changes: nothing more happens until the test goes on. */
async function untilStable(value: () => number): Promise<void> {
  for (let [last, same] = [value(), 0]; same < 50; same++) {
    await turn()
    if (value() !== last) [last, same] = [value(), 0]
  }
}

/** Ends all further calls in this way. */
function endWith(store: MemoryStore, how: (call: StoreCall) => void): void {
  void store.next().then((call) => {
    how(call)
    endWith(store, how)
  })
}

// — failures —

t.test('if the database fails midway, the problem reports what is stored, and the last committed line', async (t) => {
  stopClock(t)
  const store = createMemoryStore()
  async function* body() {
    for (let n = 1; n <= 2000; n++) yield Buffer.from(`${n === 3 ? '{broken' : line(n)}\n`)
    const first = await store.next()
    first.commit()
    endWith(store, (call) => (call.rows[0]?.type === 'after' ? call.commit() : call.fail(sqlError('57P01'))))
    for (let n = 2001; n <= 5000; n++) yield Buffer.from(`${line(n)}\n`)
  }
  const { status, code, outcome, report } = await send(body(), store, { holdMs: 0 })
  t.equal(status, 503)
  t.equal(code, 'database_unavailable')
  t.equal(outcome, 'unknown', 'some lines are stored')
  const stored = store.calls[0]?.rows.length as number
  t.ok(stored > 0 && stored < 5000, `${stored} lines are stored`)
  t.match(report, {
    counts: { created: stored, rejected: 1 },
    committedLines: stored + 1,
    rejections: [{ line: 3, code: 'invalid_json' }],
  })
})

t.test('lines that are stored after a gap do not count in committedLines', async (t) => {
  const store = createMemoryStore()
  const body = Buffer.from(`${Array.from({ length: 5000 }, (_, n) => line(n + 1)).join('\n')}\n`)
  const response = send([body.subarray(0, 120_000), body.subarray(120_000)], store)
  const first = await store.next()
  first.fail(sqlError('42501'))
  endWith(store, (call) => call.commit())
  const { status, report } = await response
  t.equal(status, 500)
  t.equal(report.committedLines, 0)
  t.equal(report.counts.created, store.stored.size)
})

t.test('if a body breaks off, its complete lines are stored, and the last line is not', async (t) => {
  const store = commitAll()
  async function* body() {
    yield Buffer.from(`${line(1)}\n${line(2)}\n${line(3)}`)
    await turn()
    throw Object.assign(new Error('aborted'), { code: 'ECONNRESET' })
  }
  const { code, outcome, report } = await send(body(), store)
  t.equal(code, 'incomplete_body')
  t.equal(outcome, 'unknown')
  t.same(storedIds(store), ['1', '2'], 'the third line may be incomplete')
  t.match(report, { counts: { created: 2 }, committedLines: 2 })
})

// Such a defect was reported as a lost connection, and the log did not have the reason.
t.test('a defect during a stream is reported as internal_error, with its cause and what is stored', async (t) => {
  const cause = new TypeError('a defect')
  for (const [lines, outcome] of [
    [0, 'not_written'],
    [2, 'unknown'],
  ] as const) {
    const store = commitAll()
    let pieces = 0
    const reserve = () => {
      if (++pieces > 2 * lines) throw cause
    }
    async function* body() {
      for (let n = 0; n < 10; n++) {
        yield Buffer.from(`${line(n)}\n`)
        await untilStable(() => store.stored.size)
      }
    }
    const response = await send(body(), store, { reserve })
    t.match(response, { status: 500, code: 'internal_error', outcome, cause }, outcome)
    t.match(response.report, { counts: { created: store.stored.size } })
  }
})

t.test('a defect in `admit` is reported as internal_error, and nothing is written', async (t) => {
  const store = commitAll()
  const admit = () => Promise.reject(new TypeError('a defect'))
  t.match(await send([Buffer.from(line(1))], store, { admit }), { code: 'internal_error', outcome: 'not_written' })
  t.equal(store.calls.length, 0)
})

const STOP = new Problem('draining', 'The test ends the stream.')

t.test('a stopped stream submits nothing more, waits for what it submitted, and reports what is stored', async (t) => {
  const store = createMemoryStore()
  const stop = new AbortController()
  const end = Promise.withResolvers<void>()
  let read = 0
  async function* body() {
    for (; read < 40_000; read += 1000)
      yield Buffer.from(Array.from({ length: 1000 }, (_, n) => `${line(read + n)}\n`).join(''))
    await end.promise
  }
  const response = send(body(), store, { stop: stop.signal })
  const calls = [await store.next(), await store.next()]
  await untilStable(() => read)
  stop.abort(STOP)
  for (const call of calls) call.commit()
  // The third chunk was submitted before the stop.
  const third = await store.next()
  third.commit()
  const { code, report } = await response
  t.equal(code, 'draining')
  t.equal(report.counts.created, 6000)
  t.equal(report.committedLines, 6000)
  t.ok(report.lines > 6000, `${report.lines} lines were read`)
  t.equal(store.calls.length, 3)
  end.resolve()
})

t.test('a stream stopped while nothing arrives ends at once, even before its first line', async (t) => {
  for (const first of [[], [Buffer.from(`${line(1)}\n{"half`)]]) {
    const store = commitAll()
    const stop = new AbortController()
    const end = Promise.withResolvers<void>()
    async function* body() {
      yield* first
      await end.promise
    }
    const response = send(body(), store, { stop: stop.signal })
    await untilStable(() => store.stored.size)
    stop.abort(STOP)
    t.match(await response, {
      code: 'draining',
      report: { counts: { created: first.length }, committedLines: first.length },
    })
    end.resolve()
  }
  const store = commitAll()
  t.match(await send([Buffer.from(line(1))], store, { stop: AbortSignal.abort(STOP) }), { code: 'draining' })
  t.equal(store.calls.length, 0)
})

// After everything was committed, a refusal would be wrong.
t.test('a stream stopped after all its lines were submitted gets its normal response', async (t) => {
  const store = createMemoryStore()
  const stop = new AbortController()
  const response = send([Buffer.from(`${line(1)}\n${line(2)}`)], store, { stop: stop.signal })
  const call = await store.next()
  await untilStable(() => store.calls.length)
  stop.abort(STOP)
  call.commit()
  t.match(await response, { status: 201, report: { counts: { created: 2 }, committedLines: 2 } })
})

t.test('a row that the database refuses is rejected with its line number', async (t) => {
  const bad = line('bad').replace('"t"', `"${GUILTY}"`)
  const { status, report } = await send([Buffer.from(`${line(1)}\n\n${bad}\n${line(4)}`)], commitAll())
  t.equal(status, 207)
  t.match(report, {
    counts: { created: 2, rejected: 1 },
    rejections: [{ line: 3, source: 's', id: 'bad', code: 'refused_by_database' }],
  })
})

// — the report —

t.test('the first 1,000 rejections are listed in the order of the lines, and the others are counted', async (t) => {
  const body = Array.from({ length: 3500 }, (_, n) => `{"line":${n + 1}}`).join('\n')
  const { status, report } = await send([Buffer.from(`${line('good')}\n${body}`)], commitAll())
  t.equal(status, 207)
  t.equal(report.rejections.length, 1000)
  t.same(
    report.rejections.map((rejection: { line: number }) => rejection.line),
    Array.from({ length: 1000 }, (_, n) => n + 2),
  )
  t.equal(report.rejectionsOmitted, 2500)
  t.equal(report.counts.rejected, 3500)
})

// A conflict is not known before the database responds. By then, a thousand later lines may have been rejected, so the
// conflict was counted but not listed.
t.test('a conflict in the first line is listed, however many later lines are broken', async (t) => {
  const store = commitAll()
  await send([Buffer.from(line('taken', ',"data":1'))], store)
  const body = `${line('taken', ',"data":2')}\n${'{\n'.repeat(5000)}${line('new')}`
  const { report } = await send([Buffer.from(body)], store)
  t.match(report.rejections[0], { line: 1, source: 's', id: 'taken', pointer: '/id', code: 'conflict' })
  t.equal(report.rejections.length, 1000)
  t.match(report, { counts: { created: 1, conflict: 1, rejected: 5000 }, rejectionsOmitted: 4001 })
})

t.test(
  'if all lines are rejected, the status is 409, 413 or 403 if that fits all of them, otherwise 422',
  async (t) => {
    const store = commitAll()
    await send([Buffer.from(line('taken', ',"data":1'))], store)
    const conflict = line('taken', ',"data":2')
    const large = line('large', `,"data":"${'x'.repeat(2000)}"`)
    for (const [lines, code, status] of [
      [[conflict, conflict], 'conflict', 409],
      [[large], 'record_too_large', 413],
      [['{}', '{'], 'rejected', 422],
      [[conflict, '{}'], 'rejected', 422],
      [[conflict, large], 'rejected', 422],
    ] as const) {
      const response = await send([Buffer.from(lines.join('\n'))], store)
      t.match(response, { status, code, outcome: 'not_written' }, code)
      t.equal(response.report.rejections.length, lines.length, 'with the report')
    }
    const forbidden = await send([Buffer.from(conflict)], store, { key: { ...KEY, sourcePrefixes: ['mine'] } })
    t.match(forbidden, {
      status: 403,
      code: 'source_forbidden',
      report: { rejections: [{ line: 1, pointer: '/source' }] },
    })
  },
)
