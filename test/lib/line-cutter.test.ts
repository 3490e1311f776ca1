import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { LineCutter } from '../../src/lib/line-cutter.ts'

/** The lines that a cutter finds in these chunks: the bytes of each line in hex, or null if it is too long. */
function cut(chunks: Uint8Array[], maxLineBytes = 100): [line: number, hex: string | null][] {
  const cutter = new LineCutter(maxLineBytes)
  const out: [number, string | null][] = []
  for (const piece of [...chunks.flatMap((chunk) => cutter.push(Buffer.from(chunk))), ...cutter.end()]) {
    if (!('bytes' in piece)) {
      out.push([piece.line, null])
      continue
    }
    const lines = piece.bytes.toString('latin1').split('\n')
    if (lines.at(-1) === '') lines.pop()
    assert.equal(lines.length, piece.lines, 'a block has the right number of lines')
    for (const [at, line] of lines.entries())
      out.push([piece.firstLine + at, Buffer.from(line, 'latin1').toString('hex')])
  }
  return out
}

/** The same, computed in a simple way from the whole body. */
function expected(body: Buffer, maxLineBytes = 100): [line: number, hex: string | null][] {
  const lines = body.toString('latin1').split('\n')
  if (lines.at(-1) === '') lines.pop()
  return lines.map((line, at) => [
    at + 1,
    line.length > maxLineBytes ? null : Buffer.from(line, 'latin1').toString('hex'),
  ])
}

const TEXT = [
  '{"source":"caf\u00e9","type":"\u{1f980}"}',
  '',
  '{"a":"\\n"}\r',
  '\r',
  ' \t',
  '{"crab":"\u{1f980}\u{1f980}"}\r',
  '{"last":1}',
].join('\n')

t.test('a body cut into two at any byte gives the same lines, even within a character or CRLF', async (t) => {
  for (const body of [
    Buffer.from(TEXT),
    Buffer.from(`${TEXT}\n`),
    Buffer.from(`${TEXT}\r\n`),
    Buffer.from('\n\n'),
    Buffer.alloc(0),
  ]) {
    const lines = expected(body)
    for (let at = 0; at <= body.length; at++) t.same(cut([body.subarray(0, at), body.subarray(at)]), lines, `at ${at}`)
  }
})

t.test('a body that arrives byte by byte gives the same lines', async (t) => {
  const body = Buffer.from(`${TEXT}\n`)
  t.same(cut([...body].map((byte) => Buffer.from([byte]))), expected(body))
})

t.test('any body, cut anywhere, gives the same lines', async (t) => {
  const line = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 30 }).map((text) => Buffer.from(text.toWellFormed())),
    fc.constantFrom('', '\r', '{}', '\u{1f980}\r').map((text) => Buffer.from(text)),
    fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes)),
  )
  fc.assert(
    fc.property(
      fc.array(line, { maxLength: 12 }),
      fc.boolean(),
      fc.array(fc.nat(), { maxLength: 12 }),
      (lines, newlineAtEnd, offsets) => {
        const body = Buffer.from(
          `${lines.map((one) => one.toString('latin1')).join('\n')}${newlineAtEnd ? '\n' : ''}`,
          'latin1',
        )
        const cuts = [0, ...offsets.map((offset) => offset % (body.length + 1)).sort((a, b) => a - b), body.length]
        const chunks = cuts.slice(1).map((end, at) => body.subarray(cuts[at], end))
        assert.deepEqual(cut(chunks, 1000), expected(body, 1000))
      },
    ),
    { numRuns: 500 },
  )
  t.pass('500 bodies')
})

t.test('a line that is too long gives nothing while it arrives, and then only its number', async (t) => {
  const cutter = new LineCutter(10)
  const filler = Buffer.alloc(1000, 'x')
  t.same(cutter.push(Buffer.from('{"n":1}\n')).length, 1)
  for (let n = 0; n < 1000; n++) assert.deepEqual(cutter.push(filler), [])
  t.match(cutter.push(Buffer.from('\n{"n":3}\n')), [{ line: 2 }, { firstLine: 3, lines: 1 }])
  t.same(cutter.end(), [])
})

t.test('wherever a body with lines that are too long is cut, its lines keep their numbers', async (t) => {
  const body = Buffer.from(`{"n":1}\r\n${'\u00e9'.repeat(60)}\r\n\r\n${'x'.repeat(200)}\n{"n":5}\n${'y'.repeat(103)}`)
  const lines = expected(body)
  t.same(
    lines.map(([line, hex]) => [line, hex === null]),
    [
      [1, false],
      [2, true],
      [3, false],
      [4, true],
      [5, false],
      [6, true],
    ],
  )
  for (let at = 1; at < body.length; at++) {
    const found = cut([body.subarray(0, at), body.subarray(at)])
    assert.deepEqual(
      found.map(([line]) => line),
      [1, 2, 3, 4, 5, 6],
      `at ${at}`,
    )
    // A long line that arrives whole in one chunk is returned as it is. Its reader sees that it is too long.
    for (const [index, [, hex]] of found.entries())
      if (hex !== null && lines[index]?.[1] !== null) assert.equal(hex, lines[index]?.[1])
  }
})

t.test('a line exactly at the limit is kept, with LF, CRLF or no line end', async (t) => {
  for (const end of ['', '\n', '\r\n']) {
    const body = Buffer.from(`${'x'.repeat(100)}${end}`)
    for (let at = 0; at <= body.length; at++) {
      const [first, ...more] = cut([body.subarray(0, at), body.subarray(at)])
      t.same(more, [])
      t.equal(first?.[1]?.slice(0, 200), '78'.repeat(100), `${JSON.stringify(end)} at ${at}`)
    }
  }
})
