import { type Readable, Transform, type TransformCallback } from 'node:stream'
import { constants, createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib'
import { Problem } from '../lib/problems.ts'
import { gatherChunks } from './gather-chunks.ts'

const INFLATERS = {
  gzip: createGunzip,
  br: createBrotliDecompress,
  // RFC 9659: windows of at most 8 MiB between strangers. The format itself allows ones that take gigabytes of memory.
  zstd: () => createZstdDecompress({ params: { [constants.ZSTD_d_windowLogMax]: 23 } }),
  // RFC 9110, section 8.4.1.2: the zlib format, whatever the name says.
  deflate: createInflate,
}

export type Encoding = keyof typeof INFLATERS

export const ENCODINGS = Object.keys(INFLATERS) as Encoding[]

/**
 * Reads Content-Encoding.
 * @throws Problem unsupported_encoding for one that we do not know, and for several on top of each other: they multiply
 * what a small body can inflate to, and nobody needs them
 */
export function readEncoding(header: string | undefined): Encoding | undefined {
  const name = header?.trim().toLowerCase() ?? ''
  if (name === '' || name === 'identity') return undefined
  const encoding = ENCODINGS.find((one) => one === name.replace(/^x-gzip$/, 'gzip'))
  if (encoding !== undefined) return encoding
  // RFC 9110, section 12.5.3: a 415 tells what would have been taken.
  const headers = { 'accept-encoding': ENCODINGS.join(', ') }
  throw new Problem(
    'unsupported_encoding',
    `Content-Encoding ${header} is not supported; one of ${ENCODINGS.join(', ')} is.`,
    { headers },
  )
}

/** What a body may inflate to, as a multiple of itself; JSON is rarely past 30. */
const MAX_RATIO = 200
/** … once it is past this many bytes: a small body may well be one long run of blanks. */
const RATIO_COUNTS_FROM = 1024 * 1024

/**
 * Frames of zstd that a body may consist of, however small they are; and bytes of it that allow for one more each. A frame costs
 * as much processor time as inflating some 100 KiB: two megabytes of empty ones half a minute.
 */
const FREE_FRAMES = 100
const BYTES_PER_FRAME = 1024

/** The body, inflated as it is read and no faster. What goes wrong is an 'error' of the stream: see `toBodyProblem`. */
export function inflate(body: Readable, encoding: Encoding | undefined): Readable {
  if (encoding === undefined) return body
  const inflated = new Inflation(encoding)
  // A request can be refused before anybody reads this; an error without a listener would end the process.
  inflated.on('error', () => {})
  // Not stream.pipeline, which would destroy the request with the stream, and with it the connection for the answer.
  const fail = (error: Error) => inflated.destroy(error)
  body.on('error', fail).on('close', () => body.readableEnded || fail(new Error('the sender is gone')))
  inflated.on('close', () => {
    body.unpipe(inflated)
    body.resume()
  })
  return body.pipe(inflated)
}

/** More bytes come after the end of the compressed data. */
class TrailingBytesError extends Error {
  readonly code = 'ERR__TRAILING_BYTES'
}

/**
 * What Node's streams do, and two things more: a bomb is refused while it goes off, and nothing is passed over in
 * silence. Theirs stop at the end of the compressed data; of zstd, which may be several frames (RFC 8878, section 3; so
 * do pzstd and `cat`), they stop at the end of the first, and what comes after it would be lost without a word.
 */
class Inflation extends Transform {
  readonly #encoding: Encoding
  #inflater: ReturnType<(typeof INFLATERS)[Encoding]>
  /** Bytes that went into earlier inflaters, and that came out of all. */
  #bytesIn = 0
  #bytesOut = 0
  #frames = 1
  /** The first bytes of the frame, and what came out of it. */
  #head = Buffer.alloc(0)
  #frameBytesOut = 0

  constructor(encoding: Encoding) {
    // What waits to be inflated stays in the body, where it is gathered (gather-chunks.ts).
    super({ writableHighWaterMark: 1 })
    this.#encoding = encoding
    gatherChunks(this)
    this.#inflater = this.#open()
  }

  /** What the inflater keeps of what it has put out, in bytes: memory of its own, which is not on the heap. */
  get windowBytes(): number {
    return Math.min(this.#frameBytesOut, windowOf(this.#encoding, this.#head))
  }

  #open() {
    const inflater = INFLATERS[this.#encoding]()
    inflater.on('error', (error) => this.destroy(error))
    inflater.on('data', (bytes: Buffer) => {
      this.#bytesOut += bytes.length
      this.#frameBytesOut += bytes.length
      if (this.#bytesOut > RATIO_COUNTS_FROM && this.#bytesOut > MAX_RATIO * (this.#bytesIn + inflater.bytesWritten)) {
        this.destroy(new Problem('inflates_too_far', `The body inflates to more than ${MAX_RATIO} times its size.`))
      } else if (!this.push(bytes)) inflater.pause()
    })
    return inflater
  }

  override _read(size: number): void {
    this.#inflater.resume()
    super._read(size)
  }

  override _transform(chunk: Buffer, encoding: BufferEncoding, done: TransformCallback): void {
    const inflater = this.#inflater
    const before = inflater.bytesWritten
    if (this.#head.length < HEAD_BYTES)
      this.#head = Buffer.concat([this.#head, chunk.subarray(0, HEAD_BYTES - this.#head.length)])
    inflater.write(chunk, (error) => {
      if (error) return
      const rest = chunk.subarray(inflater.bytesWritten - before)
      if (rest.length === 0) return done()
      if (this.#encoding !== 'zstd') return done(new TrailingBytesError('bytes after the end'))
      // The next frame, as soon as this one is read.
      const goOn = () => {
        this.#bytesIn += inflater.bytesWritten
        inflater.destroy()
        if (++this.#frames > FREE_FRAMES + this.#bytesIn / BYTES_PER_FRAME) return done(tooManyFrames())
        this.#inflater = this.#open()
        this.#head = Buffer.alloc(0)
        this.#frameBytesOut = 0
        this._transform(rest, encoding, done)
      }
      if (inflater.readableEnded) goOn()
      else inflater.on('end', goOn)
    })
  }

  override _flush(done: TransformCallback): void {
    this.#inflater.on('end', () => done()).end()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#inflater.destroy()
    done(error)
  }
}

/** What an inflater of this body holds beyond what its stream counts, in bytes; 0 for a body that is not compressed. */
export const inflaterBytes = (body: Readable): number => (body instanceof Inflation ? body.windowBytes : 0)

/** What the beginning of a frame has to have for its window to be known. */
const HEAD_BYTES = 6

/** How far back a frame may refer, by its first bytes; while they do not say so yet, what the encoding allows at most. */
function windowOf(encoding: Encoding, head: Buffer): number {
  const [first = 0] = head
  if (encoding === 'zstd') {
    // RFC 8878, section 3.1.1.1. A frame in a single segment has no window of its own, but for all of its content.
    const hasWindow = head.length === HEAD_BYTES && ((head[4] as number) & 0x20) === 0
    if (!hasWindow) return MAX_WINDOW.zstd
    const [exponent, mantissa] = [(head[5] as number) >> 3, (head[5] as number) & 7]
    return 2 ** (10 + exponent) * (1 + mantissa / 8)
  }
  if (encoding === 'br' && head.length > 0) {
    // RFC 7932, section 9.1: WBITS.
    if ((first & 1) === 0) return 2 ** 16
    if ((first & 0x0e) !== 0) return 2 ** (17 + ((first >> 1) & 7))
  }
  return MAX_WINDOW[encoding]
}

const MAX_WINDOW: Record<Encoding, number> = { zstd: 2 ** 23, br: 2 ** 24, gzip: 2 ** 15, deflate: 2 ** 15 }

function tooManyFrames(): Problem {
  const detail = `The body has more frames than ${FREE_FRAMES} and one for each ${BYTES_PER_FRAME} bytes. Compress more at a time.`
  return new Problem('too_complex', detail)
}

/** Nothing more of a body is wanted. What still comes is read and dropped, so that its sender gets to read the answer. */
export function abandon(stream: Readable): void {
  // The connection may break as well: nobody waits for that any more.
  stream.on('error', () => {})
  if (stream instanceof Transform) stream.destroy()
  else stream.resume()
}

/** A body's stream broke: whose fault was it? */
export function toBodyProblem(error: unknown): Problem {
  if (error instanceof Problem) return error
  const code = String((error as NodeJS.ErrnoException | undefined)?.code)
  // zlib, brotli and zstd, each in its own way.
  if (/^(?:Z_|ERR__|ZSTD_)/.test(code)) {
    return new Problem(
      'corrupt_encoding',
      'The body is not what Content-Encoding says: it is damaged or was cut short.',
    )
  }
  return new Problem('incomplete_body', 'The connection was lost before the body was complete.', { cause: error })
}
