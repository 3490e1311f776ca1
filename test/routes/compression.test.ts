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

// 25 exports that nobody took held 100 to 200 MiB more than the budget knew of.
t.test('an answer that is compressed has its compressor reserved until it is taken or given up', async (t) => {
  const data = randomBytes(450_000).toString('hex')
  for (let id = 0; id < 20; id++) t.equal((await post({ source: 's', type: 't', id: String(id), data })).status, 201)
  const port = await listen(app)
  /** What is reserved for an answer that its reader does not take. */
  const reserved = async (path: string, headers: Record<string, string>) => {
    const reader = await openClient(t, port, key).read(path, headers)
    t.equal(reader.headers['content-encoding'], headers['accept-encoding'])
    const { used } = app.responseMemory
    reader.on('error', () => {}).destroy()
    await until('it to be given back', () => app.responseMemory.used === 0)
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
    // As @fastify/compress opens them.
    const open = {
      br: () => createBrotliCompress(brotliOptions),
      zstd: () => createZstdCompress(zlibOptions as ZstdOptions),
      gzip: () => createGzip(zlibOptions),
    }
    const weigh = async (encoding: (typeof ENCODINGS)[number], count: number) => {
      const before = held()
      const compressors = Array.from({ length: count }, () => open[encoding]().resume())
      for (const compressor of compressors)
        for (let pages = 0; pages < 2; pages++) await new Promise((resolve) => compressor.write(page, resolve))
      const grown = held() - before
      // What one gives back, the next would take: its memory would not grow.
      t.teardown(() => compressors.forEach((compressor) => void compressor.destroy()))
      return grown
    }
    // What the first of them bring along for the whole process is not theirs.
    for (const encoding of ENCODINGS) await weigh(encoding, 4)
    for (const encoding of ['gzip', 'br', 'zstd'] as const) {
      const grown = await weigh(encoding, 20)
      t.comment(`${encoding}: ${(grown / 20 / MiB).toFixed(2)} MiB`)
      t.ok(grown < 20 * RESERVED, `${encoding}: ${grown} bytes`)
    }
  },
)

function held(): number {
  gc()
  gc()
  return process.memoryUsage().rss
}
