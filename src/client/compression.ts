import { Readable, type Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { constants, createGunzip, createGzip, createZstdCompress, createZstdDecompress } from 'node:zlib'
import { Inflater } from '../lib/inflater.ts'
import { lookOfFile } from '../lib/looks-like.ts'

const EXTENSIONS = ['.gz', '.zst'] as const
type Extension = (typeof EXTENSIONS)[number]

const INFLATE: Record<Extension, (bytes: AsyncIterable<Buffer>) => AsyncIterable<Buffer>> = {
  '.gz': (bytes) => through(bytes, createGunzip()),
  // A window of 128 MiB is enough for `zstd --ultra`. Files made with `zstd --long` may need up to 2 GiB.
  '.zst': (bytes) =>
    through(bytes, new Inflater(() => createZstdDecompress({ params: { [constants.ZSTD_d_windowLogMax]: 27 } }))),
}

const DEFLATE: Record<Extension, () => Transform> = { '.gz': createGzip, '.zst': createZstdCompress }

/** Splits a name: `orders.ndjson.gz` is the name `orders.ndjson` and the extensions of its compression, the last one first. */
export function readName(path: string): { name: string; extensions: Extension[] } {
  const extensions: Extension[] = []
  for (let name = path; ; ) {
    const extension = EXTENSIONS.find((one) => name.toLowerCase().endsWith(one))
    if (extension === undefined) return { name, extensions }
    extensions.push(extension)
    name = name.slice(0, -extension.length)
  }
}

/** The content of a file, decompressed as its name says. Throws if the data is damaged or incomplete. */
export function inflateByName(bytes: AsyncIterable<Buffer>, extensions: readonly Extension[]): AsyncIterable<Buffer> {
  return extensions.reduce((content, extension) => INFLATE[extension](content), bytes)
}

/** The compression streams for the name of a file, in order. */
export function deflateByName(path: string): Transform[] {
  return readName(path)
    .extensions.reverse()
    .map((extension) => DEFLATE[extension]())
}

async function* through(bytes: AsyncIterable<Buffer>, stream: Transform): AsyncGenerator<Buffer> {
  let start = Buffer.alloc(0)
  const done = pipeline(Readable.from(watched(), { highWaterMark: 1 }), stream)
  // The stream emits the same error, and it is handled there.
  done.catch(() => {})
  try {
    yield* stream
  } catch (error) {
    const isCompressed = ['gzip', 'zstd'].includes(lookOfFile(start)?.name ?? '')
    const advice = ADVICE[(error as Error).message]?.[isCompressed ? 1 : 0]
    throw advice === undefined ? error : new Error(advice, { cause: error })
  }

  async function* watched() {
    for await (const chunk of bytes) {
      if (start.length < 4) start = Buffer.concat([start, chunk.subarray(0, 4)])
      yield chunk
    }
  }
}

const followed = (message: string, program: string) =>
  `its data is damaged, or something else follows it (${message}). What can be read: ${program} FILE | sluice load - …`

const other = (name: string, extension: string) =>
  `it is not compressed with ${name}, although its name ends with ${extension}. Rename it`

const WINDOW = 'it needs a window of more than 128 MiB. Decompress it first: zstd -dc --long=31 FILE | sluice load -'

/** What to do about an error of zlib or zstd, by its message: if the file does not begin as its name says, and if it does. */
const ADVICE: Record<string, readonly [other: string, damaged: string]> = {
  'incorrect header check': [other('gzip', '.gz'), followed('incorrect header check', 'zcat')],
  'unknown compression method': [other('gzip', '.gz'), followed('unknown compression method', 'zcat')],
  'Unknown frame descriptor': [other('zstd', '.zst'), followed('Unknown frame descriptor', 'zstdcat')],
  'Frame requires too much memory for decoding': [WINDOW, WINDOW],
}
