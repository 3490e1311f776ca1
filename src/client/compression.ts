import { Readable, type Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { constants, createGunzip, createGzip, createZstdCompress, createZstdDecompress } from 'node:zlib'

/** By the end of a file's name. */
const INFLATE: Record<string, (bytes: AsyncIterable<Buffer>) => AsyncIterable<Buffer>> = {
  '.gz': (bytes) => through(bytes, createGunzip()),
  '.zst': inflateZstd,
}

const DEFLATE: Record<string, () => Transform> = { '.gz': createGzip, '.zst': createZstdCompress }

/** Takes a name apart: `orders.ndjson.gz` is `orders.ndjson` and what to undo, the last first. */
export function readName(path: string): { name: string; endings: string[] } {
  const endings: string[] = []
  for (let name = path; ; ) {
    const ending = Object.keys(INFLATE).find((one) => name.toLowerCase().endsWith(one))
    if (ending === undefined) return { name, endings }
    endings.push(ending)
    name = name.slice(0, -ending.length)
  }
}

/** What a file holds, whatever its name says it was compressed with. Damage is an error, and so is an early end. */
export function inflateByName(bytes: AsyncIterable<Buffer>, endings: readonly string[]): AsyncIterable<Buffer> {
  return endings.reduce((content, ending) => INFLATE[ending]?.(content) ?? content, bytes)
}

/** The streams that make what the name of a file says, in order. */
export function deflateByName(path: string): Transform[] {
  return readName(path)
    .endings.reverse()
    .map((ending) => (DEFLATE[ending] as () => Transform)())
}

async function* through(bytes: AsyncIterable<Buffer>, stream: Transform): AsyncGenerator<Buffer> {
  const done = pipeline(Readable.from(bytes, { highWaterMark: 1 }), stream)
  // Told by the stream as well, and that is where it is read.
  done.catch(() => {})
  yield* stream
}

/**
 * A file may hold several frames (RFC 8878, section 3; `pzstd` and `cat` make such), and Node's stream ends with the
 * first one without a word: what is left of the bytes begins the next.
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
    // Files that were packed with --long have windows of up to 2 GiB; --ultra stays below this one, 128 MiB.
    const frame = createZstdDecompress({ params: { [constants.ZSTD_d_windowLogMax]: 27 } })
    let fed = 0
    const given: Buffer[] = []
    yield* through(feed(rest), frame)
    rest = tail(given, fed - frame.bytesWritten)

    async function* feed(before: Buffer[]): AsyncGenerator<Buffer> {
      for (const chunk of before) yield give(chunk)
      // Only asked for when there is room for it, so few of them are kept.
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
