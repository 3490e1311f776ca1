import { Transform, type TransformCallback, type TransformOptions } from 'node:stream'
import { type Zlib, ZstdDecompress } from 'node:zlib'

type Decompressor = Transform & Zlib

/** There are bytes after the end of the compressed data. */
class TrailingBytesError extends Error {
  readonly code = 'ERR__TRAILING_BYTES'
}

/**
 * Decompresses with one of Node's streams, and never ignores bytes silently. Node's streams stop at the end of the compressed data.
 * For zstd, they stop at the end of the first frame, although data may have several (RFC 8878, section 3; pzstd and `cat` produce
 * such files), and the rest would be lost.
 */
export class Inflater extends Transform {
  readonly #create: () => Decompressor
  #current: Decompressor
  /** Compressed bytes of the frames before the current one. */
  #bytesBefore = 0

  /** @param create called for each frame that begins within a chunk */
  constructor(create: () => Decompressor, options?: TransformOptions) {
    super(options)
    this.#create = create
    this.#current = this.#open()
  }

  /** How many compressed bytes were inflated. */
  get bytesIn(): number {
    return this.#bytesBefore + this.#current.bytesWritten
  }

  /** Called with all output. It may destroy the stream. */
  protected onOutput(_bytes: Buffer): void {}

  /** Called before the next frame. It may destroy the stream. */
  protected onNextFrame(): void {}

  #open(): Decompressor {
    const current = this.#create()
    current.on('error', (error) => this.destroy(error))
    current.on('data', (bytes: Buffer) => {
      this.onOutput(bytes)
      if (!this.destroyed && !this.push(bytes)) current.pause()
    })
    return current
  }

  override _read(size: number): void {
    this.#current.resume()
    super._read(size)
  }

  override _transform(chunk: Buffer, encoding: BufferEncoding, done: TransformCallback): void {
    const current = this.#current
    const before = current.bytesWritten
    current.write(chunk, (error) => {
      if (error) return
      const rest = chunk.subarray(current.bytesWritten - before)
      if (rest.length === 0) return done()
      if (!(current instanceof ZstdDecompress)) return done(new TrailingBytesError('bytes after the end'))
      // Starts when all output of the current frame was read.
      const startNextFrame = () => {
        this.onNextFrame()
        if (this.destroyed) return
        this.#bytesBefore += current.bytesWritten
        current.destroy()
        this.#current = this.#open()
        this._transform(rest, encoding, done)
      }
      if (current.readableEnded) startNextFrame()
      else current.on('end', startNextFrame)
    })
  }

  override _flush(done: TransformCallback): void {
    this.#current.on('end', () => done()).end()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#current.destroy()
    done(error)
  }
}
