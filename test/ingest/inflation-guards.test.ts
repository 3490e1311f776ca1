import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { createZstdCompress, gzip, gzipSync, constants as zlib, zstdCompressSync } from 'node:zlib'
import t from 'tap'
import { inflate, toBodyProblem } from '../../src/ingest/inflate.ts'
import { until, untilStable } from '../helpers/until.ts'

/** Text that compresses to about half of its size. */
const text = (bytes: number) => Buffer.from(randomBytes(bytes / 2).toString('hex'))

// RFC 9659 limits windows to 8 MiB. The format allows gigabytes, which any sender could make the server allocate.
t.test('zstd with a window of 8 MiB is read, and with a larger one it is refused', async (t) => {
  // A stream, because the compressor must not know the length: otherwise its window is no larger than the content.
  const compress = (windowLog: number) => {
    const stream = createZstdCompress({ params: { [zlib.ZSTD_c_windowLog]: windowLog } })
    stream.write('[]')
    stream.end()
    return stream.toArray()
  }
  const read = async (windowLog: number) => inflate(Readable.from(await compress(windowLog)), 'zstd').toArray()
  t.equal(String(Buffer.concat(await read(23))), '[]')
  const failure = await read(24).catch(toBodyProblem)
  t.match(failure, { code: 'unsupported_encoding', message: /larger than 8 MiB.*zstd -19.*--long=23/ })
})

// If the inflated size of the whole body were compared with the compressed size of one frame, many small frames would seem
// to be a bomb.
t.test('the compression ratio of a body with many frames is that of the whole body', async (t) => {
  const contents = Array.from({ length: 300 }, () => text(8192))
  const frames = contents.map((content) => zstdCompressSync(content))
  const inflated = await inflate(Readable.from([Buffer.concat(frames)]), 'zstd').toArray()
  t.ok(Buffer.concat(inflated).equals(Buffer.concat(contents)))
})

// A compressed body that is inflated before it is read takes many times its size in memory.
t.test('while the reader pauses, less than 1 MiB of inflated bytes is held', async (t) => {
  const compressed = gzipSync(text(32 * 1024 * 1024), { level: 1 })
  const stream = inflate(Readable.from([compressed]), 'gzip')
  t.teardown(() => stream.destroy())
  stream.once('data', () => stream.pause())
  // It runs on the same threads as the inflater, so that pending inflation gets its turn.
  const work = () => promisify(gzip)('work')
  await until('the first inflated bytes', () => stream.readableLength > 0)
  const held = await untilStable(() => stream.readableLength, work)
  t.ok(held > 0 && held < 1024 * 1024, `${held} bytes are held`)
})
