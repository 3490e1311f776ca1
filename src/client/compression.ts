import { Readable, type Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { constants, createGunzip, createGzip, createZstdCompress, createZstdDecompress } from 'node:zlib'

/** By file extension. */
const INFLATE: Record<string, (bytes: AsyncIterable<Buffer>) => AsyncIterable<Buffer>> = {
  '.gz': (bytes) => through(bytes, createGunzip()),
  '.zst': inflateZstd,
}

const DEFLATE: Record<string, () => Transform> = { '.gz': createGzip, '.zst': createZstdCompress }

/** Splits a name: `orders.ndjson.gz` is the name `orders.ndjson` and the extensions of its compression, the last one first. */
export function readName(path: string): { name: string; endings: string[] } {
  const endings: string[] = []
  for (let name = path; ; ) {
    const ending = Object.keys(INFLATE).find((one) => name.toLowerCase().endsWith(one))
    if (ending === undefined) return { name, endings }
    endings.push(ending)
    name = name.slice(0, -ending.length)
  }
}

/** The content of a file, decompressed as its name says. Throws if the data is damaged or incomplete. */
export function inflateByName(bytes: AsyncIterable<Buffer>, endings: readonly string[]): AsyncIterable<Buffer> {
  return endings.reduce((content, ending) => INFLATE[ending]?.(content) ?? content, bytes)
}

/** The compression streams for the name of a file, in order. */
export function deflateByName(path: string): Transform[] {
  return readName(path)
    .endings.reverse()
    .map((ending) => (DEFLATE[ending] as () => Transform)())
}

async function* through(bytes: AsyncIterable<Buffer>, stream: Transform): AsyncGenerator<Buffer> {
  const done = pipeline(Readable.from(bytes, { highWaterMark: 1 }), stream)
  // The stream emits the same error, and it is handled there.
  done.catch(() => {})
  yield* stream
}

/**
 * A file may contain several frames (RFC 8878, section 3; `pzstd` and `cat` make such files). Node's stream ends silently after
 * the first frame. The bytes after it begin the next one.
 */
async function* inflateZstd(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const source = bytes[Symbol.asyncIterator]()
  let rest: Buffer[] = []
  for (let first = true; ; first = false) {
    if (rest.length === 0) {
      const next = await source.next()
      if (next.done === true) {
        if (first) throw new Error('the file is empty')
        return
      }
      rest = [next.value]
    }
    // A window of 128 MiB is enough for `zstd --ultra`. Files made with `zstd --long` may need up to 2 GiB and are refused.
    const frame = createZstdDecompress({ params: { [constants.ZSTD_d_windowLogMax]: 27 } })
    let fed = 0
    const given: Buffer[] = []
    yield* through(feed(rest), frame)
    rest = tail(given, fed - frame.bytesWritten)

    async function* feed(before: Buffer[]): AsyncGenerator<Buffer> {
      for (const chunk of before) yield give(chunk)
      // The stream asks for a chunk only when it has room, so few chunks are kept.
      for (let next = await source.next(); next.done !== true; next = await source.next()) yield give(next.value)
    }
    function give(chunk: Buffer): Buffer {
      fed += chunk.length
      given.push(chunk)
      while (given.length > 1 && fed - total(given) + (given[0] as Buffer).length <= frame.bytesWritten) given.shift()
      return chunk
    }
  }
}

const total = (chunks: readonly Buffer[]) => chunks.reduce((sum, { length }) => sum + length, 0)

/** The last bytes of the chunks, without a copy. */
function tail(chunks: readonly Buffer[], bytes: number): Buffer[] {
  const kept: Buffer[] = []
  for (let left = bytes, at = chunks.length - 1; left > 0 && at >= 0; at--) {
    const chunk = chunks[at] as Buffer
    kept.unshift(chunk.subarray(Math.max(chunk.length - left, 0)))
    left -= chunk.length
  }
  return kept
}
