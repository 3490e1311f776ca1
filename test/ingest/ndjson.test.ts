import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import t from 'tap'
import { makeDefaults } from '../../src/ingest/defaults.ts'
import { type Admit, STREAM_BYTES } from '../../src/ingest/line-chunks.ts'
import { ingestLines, type LinesResponse } from '../../src/ingest/ndjson.ts'
import { noCounts } from '../../src/ingest/results.ts'
import { Writer } from '../../src/ingest/writer.ts'
import { Problem } from '../../src/lib/problems.ts'
import type { Key } from '../../src/operate/keys.ts'
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

/** Longer than any machine takes: no time is up, unless the test is about that. */
const HOLD_MS = 600_000

/** Stores these chunks as a stream of lines. @returns the report, or the problem with it */
async function send(
  body: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  store: MemoryStore,
  {
    key = KEY,
    idempotencyKey,
    holdMs = HOLD_MS,
    hold = () => {},
    stop = new AbortController().signal,
    admit = async () => {},
  }: {
    key?: Key
    idempotencyKey?: string
    holdMs?: number
    hold?: (bytes: number) => void
    stop?: AbortSignal
    admit?: Admit
  } = {},
) {
  const writer = new Writer(store, { maxRows: 2000, maxBytes: 4 * 1024 * 1024, concurrency: 2, holdMs })
  const totals = noCounts()
  const request = { key, limits, stop, totals, hold, admit, defaults: makeDefaults(idempotencyKey, undefined)(false) }
  const stream = Readable.from(body, { objectMode: false, highWaterMark: 65536 })
  const answer = await ingestLines(stream, writer, request).then(
    (answer: LinesResponse) => ({ status: answer.status as number, code: undefined, report: JSON.parse(answer.body) }),
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
  // Whatever becomes of it, /metrics is told of the same lines as the sender.
  assert.deepEqual(totals, answer.report.counts)
  // An outage ends with the next flush.
  if (answer.code === 'database_unavailable') {
    const rows = [makeRow({ type: 'after' })]
    writer.submit({ key: 'k', rows, bytes: 1, strict: false }, () => {})
  }
  await writer.close()
  // biome-ignore lint/suspicious/noExplicitAny: the report's fields are what the tests are about
  return answer as { status: number; code: string | undefined; outcome?: string; cause?: unknown; report: any }
}

const commitAll = () => createMemoryStore((call) => call.commit())
const line = (id: string | number, more = '') => `{"source":"s","type":"t","id":"${id}"${more}}`
const storedIds = (store: MemoryStore) => [...store.stored.values()].map(({ row }) => row.id)

// — what became of a stream whose chunks fail differently —

// Chunk 2 failed first, and nothing of it was written. That was the answer, although chunk 1 was committed.
t.test('chunks that fail in different ways: the outcome is unknown when one of them may be written', async (t) => {
  stopClock(t)
  // Both are full, so that the second is written beside the first at once.
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
        await nextTurn()
        ;(name === 'first' ? written : unwritten)(calls.get(name) as StoreCall)
      }
    })
    const answer = await send([full('first'), full('second')], store, { holdMs: 0 })
    t.match(answer, { status: 503, outcome: 'unknown' }, `${order} first`)
    t.match(answer.report, { committedLines: 0, counts: { created: 0 } })
    t.equal(storedIds(store).filter((id) => id.startsWith('first')).length, 2000)
  }
})

// — cutting —

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

t.test('a body cut at any byte into two chunks stores the same and is answered the same', async (t) => {
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
      // Of a line that is dropped while it arrives nobody reads whose it was.
      assert.deepEqual(firstTwo(found.report), firstTwo(expected.report), `at ${at}`)
      assert.equal(found.report.rejections[2].line, 7)
      assert.equal(found.report.rejections[2].code, 'record_too_large')
      const rowsOf = ({ stored }: MemoryStore) => [...stored.values()].map(({ row }) => row)
      assert.deepEqual(rowsOf(store), rowsOf(whole), `at ${at}: rows`)
    }
  }
})

t.test('any body, in any chunks, is answered as it is in one', async (t) => {
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
      async (pieces, places) => {
        const body = Buffer.from(pieces.join('\n'))
        const cuts = [0, ...places.map((place) => place % (body.length + 1)).sort((a, b) => a - b), body.length]
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

// Of a file that some program on Windows wrote, the first line was refused, and all others stored.
t.test('a byte order mark before the first line is passed over, and only there', async (t) => {
  const store = commitAll()
  const mark = '\ufeff'
  const { report } = await send([Buffer.from(`${mark}${line(1)}\n${mark}${line(2)}\n${line(3)}`)], store)
  t.same(storedIds(store), ['1', '3'])
  t.match(report, { rejections: [{ line: 2, code: 'invalid_json' }] })
  t.match(await send([Buffer.from(`${mark}\n`)], store), { status: 200, report: { lines: 1 } })
})

t.test('a line that is not UTF-8 is refused alone', async (t) => {
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

t.test('a body without a line, or of blank lines only, is a success that stores nothing', async (t) => {
  for (const body of ['', '\n', '\r\n\r\n', '  \n\t']) {
    const { status, report } = await send([Buffer.from(body)], commitAll())
    t.equal(status, 200, JSON.stringify(body))
    t.match(report, { counts: { created: 0, rejected: 0 }, rejections: [], rejectionsOmitted: 0 })
    t.equal(report.lines, report.committedLines)
  }
})

t.test('the Idempotency-Key with the number of the line, from 0, makes the ids that are missing', async (t) => {
  const store = commitAll()
  const body = Buffer.from(`{"source":"s","type":"t"}\n\n${line('own')}\n{"source":"s","type":"t"}`)
  t.equal((await send([body], store, { idempotencyKey: 'k' })).status, 201)
  t.same(storedIds(store), ['k.0', 'own', 'k.3'])
  const again = await send([body], store, { idempotencyKey: 'k' })
  t.match(again, { status: 200, report: { counts: { duplicate: 3 } } })
})

// It lay there until the sender said more, or had been silent for so long that it was cut off; and what was reserved for a
// line that had been stored meanwhile stayed so, and kept others out.
t.test(
  'a line that comes while one is written is stored after that one, though the sender says nothing more',
  async (t) => {
    const store = createMemoryStore()
    const [second, over] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    async function* body() {
      yield Buffer.from(`${line('1')}\n`)
      await second.promise
      yield Buffer.from(`${line('2')}\n`)
      await over.promise
    }
    const answer = send(body(), store)
    const first = await store.next()
    second.resolve()
    await quiet(() => store.calls.length)
    t.equal(store.calls.length, 1, 'one at a time')
    first.commit()
    const next = await store.next()
    next.commit()
    over.resolve()
    t.match(await answer, { status: 201, report: { counts: { created: 2 }, committedLines: 2 } })
  },
)

// — memory —

t.test('while the database is busy no more is read than the stream has reserved', async (t) => {
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
  const answer = send(body(), store)
  const calls = [await store.next(), await store.next()]
  await quiet(() => read)
  t.equal(store.calls.length, 2, 'two flushes are at the database')
  // The piece that filled the last chunk, and those that the stream has made ready.
  t.ok(read < STREAM_BYTES + 4 * text.length, `${read} of ${CHUNKS * text.length} bytes were read`)

  // One flush commits: what it held is read anew, and no more.
  const before = read
  calls[0]?.commit()
  await quiet(() => read)
  t.ok(read > before, 'it goes on')
  t.ok(read < STREAM_BYTES + 2 * 1024 * 1024, `${read} bytes`)

  calls[1]?.commit()
  endWith(store, (call) => call.commit())
  t.match(await answer, {
    status: 201,
    report: { counts: { created: CHUNKS * 60 }, lines: CHUNKS * 60, committedLines: CHUNKS * 60 },
  })
  t.equal(read, CHUNKS * text.length)
})

// Characters were counted as if they were bytes: of Chinese text three times as much was in memory as had been reserved.
t.test('what a stream holds is told in bytes, whatever its characters take', async (t) => {
  const store = createMemoryStore()
  const text = Buffer.from(`${line('0000', `,"data":"${'\u8a9e'.repeat(300)}"`)}\n`.repeat(60))
  let [read, held] = [0, 0]
  function* body() {
    for (let n = 0; n < 200; n++) {
      read += text.length
      yield text
    }
  }
  const hold = (bytes: number) => {
    held = bytes
  }
  const answer = send(body(), store, { hold })
  const calls = [await store.next(), await store.next()]
  await quiet(() => read)
  t.ok(held > 0.9 * STREAM_BYTES, `${held} bytes are held`)
  t.ok(read < STREAM_BYTES + 4 * text.length, `${read} bytes were read`)

  for (const call of calls) call.commit()
  endWith(store, (call) => call.commit())
  t.match(await answer, { report: { committedLines: 200 * 60 } })
})

// Each kept the memory of its chunks until its end, ten MiB of it, and had reserved the 64 KiB of its next piece.
t.test('streams that have nothing to send for the moment hold next to nothing', async (t) => {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const buffers = () => {
    gc()
    return process.memoryUsage().arrayBuffers
  }
  const store = commitAll()
  const text = Buffer.from(`${line('0', `,"data":"${'x'.repeat(900)}"`)}\n`.repeat(60))
  const before = buffers()
  const over = Promise.withResolvers<void>()
  async function* body() {
    for (let n = 0; n < 100; n++) yield text
    await over.promise
  }
  const answers = Array.from({ length: 20 }, () => send(body(), store))
  const rows = () => store.calls.reduce((sum, { rows }) => sum + rows.length, 0)
  await until('all lines to be stored', () => rows() === 20 * 6000)
  // What is found to be unused is given back beside the program, and so a little later.
  await until('all but 16 MiB to be given back', () => buffers() - before < 16 * 1024 * 1024)

  over.resolve()
  for (const answer of answers) t.match(await answer, { report: { committedLines: 6000 } })
})

/** Resolves when a number has stopped growing: nothing happens any more until somebody does something. */
async function quiet(of: () => number): Promise<void> {
  for (let [last, same] = [of(), 0]; same < 50; same++) {
    await turn()
    if (of() !== last) [last, same] = [of(), 0]
  }
}

/** All further calls end like this. */
function endWith(store: MemoryStore, how: (call: StoreCall) => void): void {
  void store.next().then((call) => {
    how(call)
    endWith(store, how)
  })
}

// — failures —

t.test('when the database fails midway, the problem tells what is stored and how far it was committed', async (t) => {
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

t.test('what is stored behind a gap is not called committed', async (t) => {
  const store = createMemoryStore()
  const body = Buffer.from(`${Array.from({ length: 5000 }, (_, n) => line(n + 1)).join('\n')}\n`)
  const answer = send([body.subarray(0, 120_000), body.subarray(120_000)], store)
  const first = await store.next()
  first.fail(sqlError('42501'))
  endWith(store, (call) => call.commit())
  const { status, report } = await answer
  t.equal(status, 500)
  t.equal(report.committedLines, 0)
  t.equal(report.counts.created, store.stored.size)
})

t.test('a body that breaks off stores its whole lines, and of the last one nothing', async (t) => {
  const store = commitAll()
  async function* body() {
    yield Buffer.from(`${line(1)}\n${line(2)}\n${line(3)}`)
    await turn()
    throw Object.assign(new Error('aborted'), { code: 'ECONNRESET' })
  }
  const { code, outcome, report } = await send(body(), store)
  t.equal(code, 'incomplete_body')
  t.equal(outcome, 'unknown')
  t.same(storedIds(store), ['1', '2'], 'the third line may go on, for all that is known')
  t.match(report, { counts: { created: 2 }, committedLines: 2 })
})

// It was told that the connection was lost, and the log did not have the reason.
t.test('a defect amid a stream is told as that, with what is stored', async (t) => {
  const cause = new TypeError('a defect')
  for (const [lines, outcome] of [
    [0, 'not_written'],
    [2, 'unknown'],
  ] as const) {
    const store = commitAll()
    let pieces = 0
    const hold = () => {
      if (++pieces > 2 * lines) throw cause
    }
    async function* body() {
      for (let n = 0; n < 10; n++) {
        yield Buffer.from(`${line(n)}\n`)
        await quiet(() => store.stored.size)
      }
    }
    const answer = await send(body(), store, { hold })
    t.match(answer, { status: 500, code: 'internal_error', outcome, cause }, outcome)
    t.match(answer.report, { counts: { created: store.stored.size } })
  }
})

t.test('a defect in what is asked before lines are handed over is told as that', async (t) => {
  const store = commitAll()
  const admit = () => Promise.reject(new TypeError('a defect'))
  t.match(await send([Buffer.from(line(1))], store, { admit }), { code: 'internal_error', outcome: 'not_written' })
  t.equal(store.calls.length, 0)
})

const STOP = new Problem('draining', 'The test ends the stream.')

t.test(
  'a stream that is stopped hands over nothing more, waits for what it handed over, and says what is stored',
  async (t) => {
    const store = createMemoryStore()
    const stop = new AbortController()
    const over = Promise.withResolvers<void>()
    let read = 0
    async function* body() {
      for (; read < 40_000; read += 1000)
        yield Buffer.from(Array.from({ length: 1000 }, (_, n) => `${line(read + n)}\n`).join(''))
      await over.promise
    }
    const answer = send(body(), store, { stop: stop.signal })
    const calls = [await store.next(), await store.next()]
    await quiet(() => read)
    stop.abort(STOP)
    for (const call of calls) call.commit()
    // The third chunk was handed over before.
    const third = await store.next()
    third.commit()
    const { code, report } = await answer
    t.equal(code, 'draining')
    t.equal(report.counts.created, 6000)
    t.equal(report.committedLines, 6000)
    t.ok(report.lines > 6000, `${report.lines} lines were read`)
    t.equal(store.calls.length, 3)
    over.resolve()
  },
)

t.test('a stream that is stopped while nothing comes ends at once, at its beginning too', async (t) => {
  for (const first of [[], [Buffer.from(`${line(1)}\n{"half`)]]) {
    const store = commitAll()
    const stop = new AbortController()
    const over = Promise.withResolvers<void>()
    async function* body() {
      yield* first
      await over.promise
    }
    const answer = send(body(), store, { stop: stop.signal })
    await quiet(() => store.stored.size)
    stop.abort(STOP)
    t.match(await answer, {
      code: 'draining',
      report: { counts: { created: first.length }, committedLines: first.length },
    })
    over.resolve()
  }
  const store = commitAll()
  t.match(await send([Buffer.from(line(1))], store, { stop: AbortSignal.abort(STOP) }), { code: 'draining' })
  t.equal(store.calls.length, 0)
})

// A refusal after everything was committed would not be true.
t.test('a stream that is stopped when all of its lines were handed over is answered as if it was not', async (t) => {
  const store = createMemoryStore()
  const stop = new AbortController()
  const answer = send([Buffer.from(`${line(1)}\n${line(2)}`)], store, { stop: stop.signal })
  const call = await store.next()
  await quiet(() => store.calls.length)
  stop.abort(STOP)
  call.commit()
  t.match(await answer, { status: 201, report: { counts: { created: 2 }, committedLines: 2 } })
})

t.test('a row that the database refuses is refused by its line', async (t) => {
  const bad = line('bad').replace('"t"', `"${GUILTY}"`)
  const { status, report } = await send([Buffer.from(`${line(1)}\n\n${bad}\n${line(4)}`)], commitAll())
  t.equal(status, 207)
  t.match(report, {
    counts: { created: 2, rejected: 1 },
    rejections: [{ line: 3, source: 's', id: 'bad', code: 'refused_by_database' }],
  })
})

// — the report —

t.test('the first 1,000 rejections are told, by line, and the others counted', async (t) => {
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

// A conflict is known when the database has answered, and by then a thousand lines below it could have been refused:
// it was counted, but not told.
t.test('a conflict in the first line is told, however many lines are broken below it', async (t) => {
  const store = commitAll()
  await send([Buffer.from(line('taken', ',"data":1'))], store)
  const body = `${line('taken', ',"data":2')}\n${'{\n'.repeat(5000)}${line('new')}`
  const { report } = await send([Buffer.from(body)], store)
  t.match(report.rejections[0], { line: 1, source: 's', id: 'taken', pointer: '/id', code: 'conflict' })
  t.equal(report.rejections.length, 1000)
  t.match(report, { counts: { created: 1, conflict: 1, rejected: 5000 }, rejectionsOmitted: 4001 })
})

t.test(
  'all lines refused is an error as it is for a batch: 409, 413, 403 where that goes for all, else 422',
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
      const answer = await send([Buffer.from(lines.join('\n'))], store)
      t.match(answer, { status, code, outcome: 'not_written' }, code)
      t.equal(answer.report.rejections.length, lines.length, 'with the report')
    }
    const forbidden = await send([Buffer.from(conflict)], store, { key: { ...KEY, sourcePrefixes: ['mine'] } })
    t.match(forbidden, {
      status: 403,
      code: 'source_forbidden',
      report: { rejections: [{ line: 1, pointer: '/source' }] },
    })
  },
)
