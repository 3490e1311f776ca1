import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { createInflate, createZstdDecompress, deflateSync, zstdCompressSync } from 'node:zlib'
import t from 'tap'
import { Inflater } from '../../src/lib/inflater.ts'

/** More than any stream buffers, and of no regular content. */
const TEXT = Buffer.from(randomBytes(150_000).toString('hex'))

const pieces = (bytes: Buffer, size: number) =>
  Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) => bytes.subarray(n * size, (n + 1) * size))

const inflate = async (chunks: Buffer[], inflater = new Inflater(createZstdDecompress)) =>
  Buffer.concat(await Readable.from(chunks).pipe(inflater).toArray())

t.test('zstd of several frames is read to its end, wherever the chunks are cut', async (t) => {
  const frame = zstdCompressSync(TEXT)
  const skippable = Buffer.concat([Buffer.from('502a4d1804000000', 'hex'), Buffer.from('skip')])
  const body = Buffer.concat([skippable, frame, zstdCompressSync(Buffer.alloc(0)), frame])
  for (const size of [frame.length, frame.length - 1, frame.length + 1, 997, body.length])
    t.ok((await inflate(pieces(body, size))).equals(Buffer.concat([TEXT, TEXT])), `in chunks of ${size}`)
})

t.test('an incomplete frame is an error, also the second one, and so is an empty body', async (t) => {
  const frame = zstdCompressSync(TEXT)
  const cut = { message: 'unexpected end of file' }
  const rejects = (...chunks: Buffer[]) => t.rejects(inflate(chunks), cut)
  await rejects(frame.subarray(0, -1))
  await rejects(Buffer.concat([frame, frame.subarray(0, -1)]))
  await rejects(frame, frame.subarray(0, 5))
  await rejects()
})

t.test('bytes after the end of another format are an error', async (t) => {
  const inflater = () => new Inflater(createInflate)
  const body = deflateSync(TEXT)
  t.ok((await inflate([body], inflater())).equals(TEXT))
  await t.rejects(inflate([Buffer.concat([body, Buffer.from('more')])], inflater()), { code: 'ERR__TRAILING_BYTES' })
})

t.test('a subclass sees all output and each frame after the first, and can stop', async (t) => {
  class Counting extends Inflater {
    output = 0
    frames: number[] = []
    protected override onOutput(bytes: Buffer): void {
      this.output += bytes.length
    }
    protected override onNextFrame(): void {
      this.frames.push(this.bytesIn)
      if (this.frames.length === 3) this.destroy(new Error('enough'))
    }
  }
  const frame = zstdCompressSync(TEXT)
  const three = new Counting(createZstdDecompress)
  await inflate([Buffer.concat([frame, frame, frame])], three)
  t.equal(three.output, 3 * TEXT.length)
  t.strictSame(three.frames, [frame.length, 2 * frame.length])
  t.equal(three.bytesIn, 3 * frame.length)

  const four = new Counting(createZstdDecompress)
  await t.rejects(inflate([Buffer.concat([frame, frame, frame, frame])], four), { message: 'enough' })
})
