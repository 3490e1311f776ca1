import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { brotliCompressSync, constants, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import fc from 'fast-check'
import t from 'tap'
import { ENCODINGS, type Encoding, inflate, readEncoding, toBodyProblem } from '../../src/ingest/inflate.ts'
import { emptyFrames, skippableFrames } from '../helpers/worst-bodies.ts'

const deflaters: Record<Encoding, (bytes: Buffer) => Buffer> = {
  gzip: (bytes) => gzipSync(bytes),
  // The default quality, 11, takes a hundred times as long.
  br: (bytes) => brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }),
  zstd: (bytes) => zstdCompressSync(bytes),
  deflate: (bytes) => deflateSync(bytes),
}

/** The inflated bytes, and the code of the problem if inflating failed. */
async function read(chunks: Iterable<Buffer>, encoding: Encoding): Promise<{ bytes: Buffer; code?: string }> {
  const out: Buffer[] = []
  try {
    for await (const chunk of inflate(Readable.from(chunks), encoding)) out.push(chunk)
  } catch (error) {
    return { bytes: Buffer.concat(out), code: toBodyProblem(error).code }
  }
  return { bytes: Buffer.concat(out) }
}

const pieces = (bytes: Buffer, size: number) =>
  Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) => bytes.subarray(n * size, (n + 1) * size))

const TEXT = Buffer.from(Array.from({ length: 100 }, (_, n) => `{"n":${n},"root":${Math.sqrt(n)}}`).join('\n'))

t.test('any bytes that are compressed and cut into pieces inflate to the same bytes', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...ENCODINGS),
      fc.array(fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.constant(new Uint8Array(5000))), { maxLength: 5 }),
      fc.integer({ min: 1, max: 400 }),
      async (encoding, parts, size) => {
        const bytes = Buffer.concat(parts)
        const { bytes: found, code } = await read(pieces(deflaters[encoding](bytes), size), encoding)
        assert.equal(code, undefined)
        assert.ok(found.equals(bytes))
      },
    ),
    { numRuns: 200 },
  )
  t.pass('200 bodies')
})

t.test('a stream that is cut short anywhere is corrupt', async (t) => {
  for (const encoding of ENCODINGS) {
    const whole = deflaters[encoding](TEXT.subarray(0, 500))
    for (let end = 0; end < whole.length; end++) {
      const { code } = await read([whole.subarray(0, end)], encoding)
      assert.equal(code, 'corrupt_encoding', `${encoding} cut at ${end}`)
    }
    t.pass(encoding)
  }
})

t.test('a stream with a wrong byte is corrupt, if the format can detect it', async (t) => {
  for (const encoding of ENCODINGS) {
    const damaged = deflaters[encoding](TEXT)
    // Without a valid header, the stream does not have this format.
    damaged[0] = (damaged[0] as number) ^ 0xff
    damaged[1] = (damaged[1] as number) ^ 0xff
    t.equal((await read(pieces(damaged, 1000), encoding)).code, 'corrupt_encoding', encoding)
  }
  for (const encoding of ['gzip', 'deflate'] as const) {
    const whole = deflaters[encoding](TEXT)
    const damaged = Buffer.from(whole)
    damaged[whole.length >> 1] = (whole[whole.length >> 1] as number) ^ 1
    t.equal(
      (await read(pieces(damaged, 1000), encoding)).code,
      'corrupt_encoding',
      `${encoding}, detected by its checksum`,
    )
  }
  t.equal((await read([TEXT], 'gzip')).code, 'corrupt_encoding', 'text that was never compressed')
  t.equal((await read([deflateRawSync(TEXT)], 'deflate')).code, 'corrupt_encoding', 'deflate means the zlib format')
})

t.test('gzip with several members is read to the end', async (t) => {
  const body = Buffer.concat([gzipSync(TEXT), gzipSync(Buffer.alloc(0)), gzipSync(TEXT)])
  for (const size of [1, 997, 1_000_000]) {
    const { bytes, code } = await read(pieces(body, size), 'gzip')
    t.equal(code, undefined)
    t.ok(bytes.equals(Buffer.concat([TEXT, TEXT])), `in pieces of ${size}`)
  }
})

// Node's stream ends with the first frame. A body from `pzstd` or `cat a.zst b.zst` lost everything after its first frame,
// and the request got 201.
t.test('zstd with several frames is read to the end', async (t) => {
  const frame = zstdCompressSync(TEXT)
  const skippable = Buffer.concat([Buffer.from('502a4d1804000000', 'hex'), Buffer.from('skip')])
  const empty = zstdCompressSync(Buffer.alloc(0))
  const body = Buffer.concat([skippable, frame, empty, frame, skippable, frame])
  for (const size of [1, 7, 997, frame.length, 1_000_000]) {
    const { bytes, code } = await read(pieces(body, size), 'zstd')
    t.equal(code, undefined)
    t.ok(bytes.equals(Buffer.concat([TEXT, TEXT, TEXT])), `in pieces of ${size}`)
  }
  t.equal(
    (await read([Buffer.concat([frame, frame.subarray(0, -5)])], 'zstd')).code,
    'corrupt_encoding',
    'the last frame is cut short',
  )
})

// Each frame has its own inflater: 1.8 MB of empty frames took half a minute of processor time.
t.test('zstd with very many almost empty frames is refused early', async (t) => {
  for (const [name, body] of [
    ['empty', emptyFrames(256 * 1024)],
    ['skippable', skippableFrames(256 * 1024)],
    ['one line per frame', Buffer.concat(new Array(10_000).fill(zstdCompressSync('{"source":"s","type":"t"}\n')))],
  ] as const) {
    const { code, bytes } = await read(pieces(body, 65_536), 'zstd')
    t.equal(code, 'too_complex', name)
    t.ok(bytes.length < 10_000, `${name}: ${bytes.length} bytes came out`)
  }
})

t.test('zstd with a hundred tiny frames, or with hundreds of larger ones, is accepted', async (t) => {
  const tiny = zstdCompressSync('x')
  t.equal((await read([Buffer.concat(new Array(100).fill(tiny))], 'zstd')).bytes.length, 100)
  const noise = Buffer.from(Array.from({ length: 200 }, (_, n) => Math.sin(n)).join())
  const frame = zstdCompressSync(noise)
  t.ok(frame.length > 1024 && frame.length < 2500, `${frame.length} bytes per frame`)
  const { code, bytes } = await read(pieces(Buffer.concat(new Array(400).fill(frame)), 65_536), 'zstd')
  t.equal(code, undefined)
  t.equal(bytes.length, 400 * noise.length)
})

// Such bytes were ignored silently.
t.test('bytes after the end of the compressed data are corrupt', async (t) => {
  for (const encoding of ENCODINGS) {
    for (const more of ['garbage', '{"source":"s"}']) {
      const body = Buffer.concat([deflaters[encoding](TEXT), Buffer.from(more)])
      for (const size of [1, 1000, 1_000_000]) {
        t.equal((await read(pieces(body, size), encoding)).code, 'corrupt_encoding', `${encoding} in pieces of ${size}`)
      }
    }
  }
})

t.test('a decompression bomb is refused while it inflates', async (t) => {
  const zeros = Buffer.alloc(32 * 1024 * 1024)
  for (const encoding of ENCODINGS) {
    const bomb = deflaters[encoding](zeros)
    const { bytes, code } = await read([bomb], encoding)
    t.equal(code, 'inflates_too_far', `${encoding}: ${bomb.length} bytes`)
    t.ok(bytes.length <= 1024 * 1024 + 128 * 1024, `${bytes.length} bytes came out`)
  }
})

t.test('a decompression bomb after harmless content, or in a later member or frame, is refused too', async (t) => {
  const zeros = Buffer.alloc(32 * 1024 * 1024)
  const noise = Buffer.from(Array.from({ length: 1000 }, (_, n) => Math.sin(n)).join())
  for (const encoding of ENCODINGS) {
    const { code } = await read([deflaters[encoding](Buffer.concat([noise, zeros]))], encoding)
    t.equal(code, 'inflates_too_far', encoding)
  }
  for (const encoding of ['gzip', 'zstd'] as const) {
    const body = Buffer.concat([deflaters[encoding](Buffer.from('{}')), deflaters[encoding](zeros)])
    t.equal((await read([body], encoding)).code, 'inflates_too_far', `${encoding}, second part`)
  }
})

t.test('a body that inflates to 1 MiB may have any compression ratio', async (t) => {
  const blanks = Buffer.alloc(1024 * 1024, ' ')
  for (const encoding of ENCODINGS) {
    const { bytes, code } = await read([deflaters[encoding](blanks)], encoding)
    t.equal(code, undefined)
    t.ok(bytes.equals(blanks), encoding)
  }
})

t.test('a body is inflated no faster than it is read', async (t) => {
  const noise = Buffer.from(Array.from({ length: 400_000 }, (_, n) => Math.sin(n)).join())
  for (const encoding of ENCODINGS) {
    let taken = 0
    const compressed = deflaters[encoding](noise)
    const body = Readable.from(
      (function* () {
        for (const piece of pieces(compressed, 16_384)) {
          taken += piece.length
          yield piece
        }
      })(),
      { objectMode: false, highWaterMark: 16_384 },
    )
    const stream = inflate(body, encoding)
    await new Promise((resolve) => stream.once('readable', resolve))
    for (let n = 0; n < 50; n++) await new Promise(setImmediate)
    t.ok(
      taken < 512 * 1024 && taken < compressed.length,
      `${encoding}: ${taken} of ${compressed.length} bytes were taken`,
    )
    let bytes = 0
    for await (const chunk of stream) bytes += chunk.length
    t.equal(bytes, noise.length)
  }
})

t.test('if the sender disconnects, the body is incomplete, not corrupt', async (t) => {
  for (const encoding of ENCODINGS) {
    const body = new Readable({ read() {} })
    body.push(deflaters[encoding](TEXT).subarray(0, 50))
    const stream = inflate(body, encoding)
    stream.resume()
    const error = new Promise((resolve) => stream.on('error', resolve))
    body.destroy()
    t.equal(toBodyProblem(await error).code, 'incomplete_body', encoding)
  }
})

t.test('Content-Encoding is read in any letter case, x-gzip means gzip, and identity means none', async (t) => {
  for (const [header, encoding] of [
    [undefined, undefined],
    ['', undefined],
    ['identity', undefined],
    [' GZip ', 'gzip'],
    ['x-gzip', 'gzip'],
    ['br', 'br'],
    ['zstd', 'zstd'],
    ['deflate', 'deflate'],
  ] as const) {
    t.equal(readEncoding(header), encoding, String(header))
  }
})
