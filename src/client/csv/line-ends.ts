import { MAX_LINE_BYTES } from '../lines.ts'

const [NEWLINE, RETURN] = [0x0a, 0x0d]

/** A text whose lines end with \n or \r\n. */
interface Lines {
  bytes: AsyncIterable<Buffer>
  /** Gives a part of the text its original bytes back. */
  restore(part: Buffer): Buffer
  /** What ends a line in the original text, unless it is in quotes. */
  lineEnd: '\n' | '\r'
}

/**
 * Some programs, such as Excel for the Mac, end lines with \r alone. The first line decides. Then \r and \n change places, so that
 * nothing is lost: a quoted cell may contain either.
 */
export async function normalizeLineEnds(bytes: AsyncIterable<Buffer>): Promise<Lines> {
  const source = bytes[Symbol.asyncIterator]()
  const begin: Buffer[] = []
  let isReturn: boolean | undefined
  let endsWithReturn = false
  let size = 0
  while (isReturn === undefined) {
    const { value: chunk, done } = await source.next()
    if (done === true) isReturn = endsWithReturn
    else {
      begin.push(chunk)
      size += chunk.length
      // The \r of a \r\n may be the last byte of a chunk.
      if (size > MAX_LINE_BYTES) isReturn = false
      else if (endsWithReturn && chunk.length > 0) isReturn = chunk[0] !== NEWLINE
      else isReturn = endsInReturn(chunk)
      endsWithReturn = chunk.at(-1) === RETURN
    }
  }
  return isReturn
    ? { bytes: swapped(all()), restore: swap, lineEnd: '\r' }
    : { bytes: all(), restore: (part) => part, lineEnd: '\n' }

  async function* all(): AsyncGenerator<Buffer> {
    yield* begin
    yield* { [Symbol.asyncIterator]: () => source }
  }
}

/** Whether the first line ends with \r alone; undefined if the chunk does not show it. */
function endsInReturn(chunk: Buffer): boolean | undefined {
  const at = chunk.indexOf(RETURN)
  const newline = chunk.indexOf(NEWLINE)
  if (newline !== -1 && (at === -1 || newline <= at + 1)) return false
  return at === -1 || at === chunk.length - 1 ? undefined : true
}

async function* swapped(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const chunk of bytes) yield swap(chunk)
}

function swap(bytes: Buffer): Buffer {
  return Buffer.from(bytes.map((byte) => (byte === NEWLINE ? RETURN : byte === RETURN ? NEWLINE : byte)))
}
