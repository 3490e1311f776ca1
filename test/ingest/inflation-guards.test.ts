import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { createZstdCompress, gzip, gzipSync, constants as zlib, zstdCompressSync } from 'node:zlib'
import t from 'tap'
import { inflate, toBodyProblem } from '../../src/ingest/inflate.ts'
import { settles, until } from '../helpers/until.ts'

/** Text that compresses to about half of its size. */
const text = (bytes: number) => Buffer.from(randomBytes(bytes / 2).toString('hex'))

// RFC 9659: a window of more than 8 MiB is memory that a stranger makes us hold; of the format it may be gigabytes.
t.test('zstd with a window of more than 8 MiB is refused, of 8 MiB it is read', async (t) => {
  // As a stream, whose length the compressor does not know: else it takes no larger window than the content.
  const compress = (windowLog: number) => {
    const stream = createZstdCompress({ params: { [zlib.ZSTD_c_windowLog]: windowLog } })
    stream.write('[]')
    stream.end()
    return stream.toArray()
  }
  const read = async (windowLog: number) => inflate(Readable.from(await compress(windowLog)), 'zstd').toArray()
  t.equal(String(Buffer.concat(await read(23))), '[]')
  const failure = await read(24).catch(toBodyProblem)
  t.match(failure, { code: 'corrupt_encoding' })
})

// What one frame inflates to was compared with that frame alone: a body of many small frames is no bomb.
t.test('a body of many frames is measured as a whole', async (t) => {
  const contents = Array.from({ length: 300 }, () => text(8192))
  const frames = contents.map((content) => zstdCompressSync(content))
  const inflated = await inflate(Readable.from([Buffer.concat(frames)]), 'zstd').toArray()
  t.ok(Buffer.concat(inflated).equals(Buffer.concat(contents)))
})

// A compressed body takes many times its size in memory if it is inflated before anybody reads on.
t.test('no more is inflated than is read', async (t) => {
  const packed = gzipSync(text(32 * 1024 * 1024), { level: 1 })
  const stream = inflate(Readable.from([packed]), 'gzip')
  t.teardown(() => stream.destroy())
  stream.once('data', () => stream.pause())
  // On the same threads, so that whatever is still to be inflated has its turn.
  const work = () => promisify(gzip)('work')
  await until('the first of it', () => stream.readableLength > 0)
  const held = await settles(() => stream.readableLength, work)
  t.ok(held > 0 && held < 1024 * 1024, `${held} bytes are held`)
})
