import { createServer, type IncomingMessage } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { PassThrough, Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import t from 'tap'
import { gatherChunks } from '../../src/lib/gather-chunks.ts'
import { until } from '../helpers/until.ts'

/** Varying bytes, so that the tests notice if some are missing or in the wrong order. */
const content = Buffer.from(Array.from({ length: 200_000 }, (_, n) => (n * 7 + (n >> 8)) % 256))

// 64 KiB in chunks of one byte were 65,536 objects: each stream of lines that had to wait took 11 MiB of the heap.
t.test('unread bytes are held in few pieces, however small the chunks are', async (t) => {
  const requests: IncomingMessage[] = []
  const server = createServer((request) => {
    gatherChunks(request)
    requests.push(request)
  })
  t.teardown(() => server.close())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {})
  t.teardown(() => socket.destroy())
  socket.write('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n')
  const chunks = Buffer.alloc(6 * content.length, '1\r\n \r\n')
  for (const [at, byte] of content.entries()) chunks[6 * at + 3] = byte
  socket.write(chunks)
  socket.write('0\r\n\r\n')
  const request = await until('unread bytes', () => requests.find(({ readableLength }) => readableLength > 16_384))
  const { buffer: pieces } = (request as unknown as { _readableState: { buffer: unknown[] } })._readableState
  t.ok(pieces.length < 20, `${request.readableLength} bytes wait in ${pieces.length} pieces`)
  t.ok((await buffer(request)).equals(content), 'the body is complete')
})

t.test('a reader gets all bytes, whether it reads, pipes or iterates', async (t) => {
  for (const size of [1, 3, 1000, 16_384, 100_000]) {
    const make = () => {
      const stream = new PassThrough({ highWaterMark: 1 << 20 })
      gatherChunks(stream)
      return stream
    }
    const fill = (stream: PassThrough) => {
      for (let at = 0; at < 100_000; at += size) stream.write(content.subarray(at, Math.min(at + size, 100_000)))
    }
    const expected = content.subarray(0, 100_000)

    const read = make()
    fill(read)
    const parts: Buffer[] = []
    for (let bytes = read.read(); bytes !== null; bytes = read.read()) parts.push(bytes)
    t.ok(Buffer.concat(parts).equals(expected), `read before the end, chunks of ${size}`)
    read.write('x')
    t.equal(String(read.read()), 'x')

    const piped = make()
    const target = piped.pipe(new PassThrough())
    fill(piped)
    piped.end()
    t.ok((await buffer(target)).equals(expected), `piped, chunks of ${size}`)

    const iterated = make()
    fill(iterated)
    iterated.end()
    t.ok((await buffer(iterated)).equals(expected), `iterated, chunks of ${size}`)
  }
})

t.test('chunks that are read as they arrive are not merged', async (t) => {
  const stream = Readable.from([Buffer.from('a'), Buffer.from('b')], { objectMode: false })
  gatherChunks(stream)
  t.same((await stream.toArray()).map(String), ['a', 'b'])
})
