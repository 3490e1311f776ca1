import { type Readable, Transform, type TransformCallback } from 'node:stream'
import { constants, createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib'
import { gatherChunks } from '../lib/gather-chunks.ts'
import { Inflater } from '../lib/inflater.ts'
import { quoted } from '../lib/quoted.ts'
import { Problem } from '../problems.ts'
import { toInflateProblem } from './inflate-problem.ts'

const MAX_WINDOW_LOG = 23

const INFLATERS = {
  gzip: createGunzip,
  br: createBrotliDecompress,
  // RFC 9659 limits windows to 8 MiB. The format itself allows windows of gigabytes.
  zstd: () => createZstdDecompress({ params: { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG } }),
  // RFC 9110, section 8.4.1.2: despite its name, deflate is the zlib format.
  deflate: createInflate,
}

export type Encoding = keyof typeof INFLATERS

export const ENCODINGS = Object.keys(INFLATERS) as Encoding[]

/**
 * Reads Content-Encoding.
 * @throws Problem unsupported_encoding for an unknown encoding, and for several combined: they multiply the size that a
 * small body can inflate to, and no client needs them
 */
export function readEncoding(header: string | undefined): Encoding | undefined {
  if (header === undefined) return undefined
  // Empty elements of a list are ignored (RFC 9110, section 5.6.1.2).
  const names = header
    .toLowerCase()
    .split(/[\s,]+/)
    .filter((name) => name !== '' && name !== 'identity')
  if (names.length === 0) return undefined
  const encoding = ENCODINGS.find((one) => one === names[0]?.replace(/^x-gzip$/, 'gzip'))
  if (encoding !== undefined && names.length === 1) return encoding
  // RFC 9110, section 12.5.3: a 415 lists the supported encodings.
  const headers = { 'accept-encoding': ENCODINGS.join(', ') }
  throw new Problem(
    'unsupported_encoding',
    `Content-Encoding ${quoted(header)} is not supported. Use one of ${ENCODINGS.join(', ')}, or send the body as it is, without Content-Encoding.`,
    { headers },
  )
}

/** Maximum ratio of inflated to compressed bytes. JSON rarely exceeds 30. */
export const MAX_RATIO = 200
/** The ratio is checked only above this inflated size, in bytes: a small body may be one long run of spaces. */
const RATIO_APPLIES_FROM = 1024 * 1024

/**
 * Limit on zstd frames: this number, plus one frame per BYTES_PER_FRAME of the compressed body. A frame costs as much processor
 * time as inflating about 100 KiB: two megabytes of empty frames would take half a minute.
 */
const FREE_FRAMES = 100
const BYTES_PER_FRAME = 1024

/** Inflates the body only as fast as it is read. Failures are 'error' events of the stream: see `toBodyProblem`. */
export function inflate(body: Readable, encoding: Encoding | undefined): Readable {
  if (encoding === undefined) return body
  const inflated = new Inflation(encoding)
  // A request may be refused before this stream is read, and an 'error' event without a listener would end the process.
  inflated.on('error', () => {})
  // Not stream.pipeline: it would destroy the request together with the stream, and so the connection for the response.
  const fail = (error: Error) => inflated.destroy(error)
  body.on('error', fail).on('close', () => body.readableEnded || fail(new Error('the sender disconnected')))
  inflated.on('close', () => {
    body.unpipe(inflated)
    body.resume()
  })
  return body.pipe(inflated)
}

/** Stops a decompression bomb while inflating it, and measures the window. */
class Inflation extends Inflater {
  readonly #encoding: Encoding
  /** Inflated bytes of all frames. */
  #bytesOut = 0
  #frames = 1
  /** The first bytes of the current frame. */
  #head = Buffer.alloc(0)
  /** Inflated bytes of the current frame. */
  #frameBytesOut = 0

  constructor(encoding: Encoding) {
    // Compressed bytes wait in the body's own buffer, which gathers chunks (gather-chunks.ts).
    super(INFLATERS[encoding], { writableHighWaterMark: 1 })
    this.#encoding = encoding
    gatherChunks(this)
  }

  /** How much the inflater's window holds, in bytes: native memory, outside of the heap. */
  get windowBytes(): number {
    return Math.min(this.#frameBytesOut, windowOf(this.#encoding, this.#head))
  }

  override _transform(chunk: Buffer, encoding: BufferEncoding, done: TransformCallback): void {
    if (this.#head.length < HEAD_BYTES)
      this.#head = Buffer.concat([this.#head, chunk.subarray(0, HEAD_BYTES - this.#head.length)])
    super._transform(chunk, encoding, done)
  }

  protected override onOutput(bytes: Buffer): void {
    this.#bytesOut += bytes.length
    this.#frameBytesOut += bytes.length
    if (this.#bytesOut > RATIO_APPLIES_FROM && this.#bytesOut > MAX_RATIO * this.bytesIn)
      this.destroy(
        new Problem('inflates_too_far', `The body inflates to more than ${MAX_RATIO} times its size. ${SEND_PLAIN}`),
      )
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    super._destroy(error && toInflateProblem(error, this.#encoding, this.#head, this.#frames > 1), done)
  }

  protected override onNextFrame(): void {
    if (++this.#frames > FREE_FRAMES + this.bytesIn / BYTES_PER_FRAME) this.destroy(tooManyFrames())
    this.#head = Buffer.alloc(0)
    this.#frameBytesOut = 0
  }
}

const SEND_PLAIN = 'Split it, or send it without Content-Encoding.'

/** Memory of this body's inflater that its stream does not count, in bytes; 0 if the body is not compressed. */
export const inflaterBytes = (body: Readable): number => (body instanceof Inflation ? body.windowBytes : 0)

/** How many bytes of a frame are enough to know its window size. */
const HEAD_BYTES = 6

/** Window size according to the first bytes of a frame; the encoding's maximum while there are too few of them. */
function windowOf(encoding: Encoding, head: Buffer): number {
  const [first = 0] = head
  if (encoding === 'zstd') {
    // RFC 8878, section 3.1.1.1. A single-segment frame declares no window: its window is its whole content.
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

const MAX_WINDOW: Record<Encoding, number> = { zstd: 2 ** MAX_WINDOW_LOG, br: 2 ** 24, gzip: 2 ** 15, deflate: 2 ** 15 }

function tooManyFrames(): Problem {
  const detail = `The body has more than ${FREE_FRAMES} zstd frames, plus one per ${BYTES_PER_FRAME} bytes. Compress more data per frame.`
  return new Problem('too_complex', detail)
}

/** Discards the rest of a body as it arrives, so that the sender finishes and reads the response. */
export function abandon(stream: Readable): void {
  // The connection may still break. Nothing waits for the body any more, so the error is ignored.
  stream.on('error', () => {})
  if (stream instanceof Transform) stream.destroy()
  else stream.resume()
}

/** Translates the error that broke a body's stream into a problem. */
export function toBodyProblem(error: unknown): Problem {
  if (error instanceof Problem) return error
  return new Problem(
    'incomplete_body',
    'The connection was lost before the body was complete. Send the request again.',
    { cause: error },
  )
}
