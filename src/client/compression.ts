import { Readable, type Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { constants, createGunzip, createGzip, createZstdCompress, createZstdDecompress } from 'node:zlib'
import { Inflater } from '../lib/inflater.ts'

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
  const done = pipeline(Readable.from(bytes, { highWaterMark: 1 }), stream)
  // The stream emits the same error, and it is handled there.
  done.catch(() => {})
  try {
    yield* stream
  } catch (error) {
    const advice = ADVICE.find(([message]) => (error as Error).message === message)?.[1]
    throw advice === undefined ? error : new Error(advice, { cause: error })
  }
}

/** What to do about an error of zlib or zstd, by its message. */
const ADVICE = [
  ['incorrect header check', 'it is not compressed with gzip, although its name ends with .gz. Rename it'],
  ['Unknown frame descriptor', 'it is not compressed with zstd, although its name ends with .zst. Rename it'],
  [
    'Frame requires too much memory for decoding',
    'it needs a window of more than 128 MiB. Decompress it first: zstd -dc --long=31 FILE | sluice load -',
  ],
] as const
