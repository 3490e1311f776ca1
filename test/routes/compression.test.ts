import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createBrotliCompress, createGzip, createZstdCompress, type ZstdOptions } from 'node:zlib'
import t from 'tap'
import { COMPRESSION, compressorBytes } from '../../src/routes/compression.ts'
import { createApp } from '../helpers/app.ts'
import { openClient } from '../helpers/http.ts'
import { skipUnless } from '../helpers/skipping.ts'
import { listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

setFlagsFromString('--expose-gc')
const gc: () => void = runInNewContext('gc')

const MiB = 1024 * 1024
const ENCODINGS = COMPRESSION.encodings
const RESERVED = compressorBytes({ headers: { 'accept-encoding': 'br' } } as never)

const { app, key, post } = await createApp(t)

// 25 unread exports held 100 to 200 MiB more than was reserved for them.
t.test('memory for the compressor of an unread response is reserved until the reader disconnects', async (t) => {
  const data = randomBytes(450_000).toString('hex')
  for (let id = 0; id < 20; id++) t.equal((await post({ source: 's', type: 't', id: String(id), data })).status, 201)
  const port = await listen(app)
  /** How many bytes are reserved for an unread response. */
  const reserved = async (path: string, headers: Record<string, string>) => {
    const reader = await openClient(t, port, key).read(path, headers)
    t.equal(reader.headers['content-encoding'], headers['accept-encoding'])
    const { used } = app.responseMemory
    reader.on('error', () => {}).destroy()
    await until('the memory to be released', () => app.responseMemory.used === 0)
    return used
  }
  for (const accept of ['application/x-ndjson', 'application/json']) {
    const plain = await reserved('/v1/records?limit=20', { accept })
    t.ok(plain > MiB)
    for (const encoding of ENCODINGS) {
      const compressed = await reserved('/v1/records?limit=20', { accept, 'accept-encoding': encoding })
      t.equal(compressed, plain + RESERVED, `${accept}, ${encoding}`)
    }
  }
})

t.test(
  'no compressor holds more than is reserved for it',
  { skip: skipUnless(existsSync('/proc/self/status'), 'needs Linux') },
  async (t) => {
    const page = Buffer.from(
      Array.from({ length: 2500 }, (_, id) => {
        const data = { hash: randomBytes(200).toString('hex'), n: id * 17 }
        return `${JSON.stringify({ source: `shop/${id % 7}`, type: 'order.placed', id: String(id), data })}\n`
      }).join(''),
    )
    t.ok(page.length > MiB)
    const { brotliOptions, zlibOptions } = COMPRESSION
    // The same compressors as those of @fastify/compress.
    const open = {
      br: () => createBrotliCompress(brotliOptions),
      zstd: () => createZstdCompress(zlibOptions as ZstdOptions),
      gzip: () => createGzip(zlibOptions),
    }
    const measureGrowth = async (encoding: (typeof ENCODINGS)[number], count: number) => {
      const before = residentBytes()
      const compressors = Array.from({ length: count }, () => open[encoding]().resume())
      for (const compressor of compressors)
        for (let pages = 0; pages < 2; pages++) await new Promise((resolve) => compressor.write(page, resolve))
      const grown = residentBytes() - before
      // Not earlier: the next compressors would use the released memory again, and nothing would grow.
      t.teardown(() => compressors.forEach((compressor) => void compressor.destroy()))
      return grown
    }
    // The first compressors also allocate what all compressors of the process share. This must not count.
    for (const encoding of ENCODINGS) await measureGrowth(encoding, 4)
    for (const encoding of ['gzip', 'br', 'zstd'] as const) {
      const grown = await measureGrowth(encoding, 20)
      t.comment(`${encoding}: ${(grown / 20 / MiB).toFixed(2)} MiB`)
      t.ok(grown < 20 * RESERVED, `${encoding}: ${grown} bytes`)
    }
  },
)

function residentBytes(): number {
  gc()
  gc()
  return process.memoryUsage().rss
}
