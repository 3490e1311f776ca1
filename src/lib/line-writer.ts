import { write, writeSync } from 'node:fs'

/** How long to wait after a write that failed: a pipe without room, and anything else, such as a full disk. */
const BUSY_MS = 20
const FAILED_MS = 1_000
/** How long `end` waits for a pipe without room. */
const LAST_MS = 5_000

interface Options {
  /** Maximum memory for lines that wait. Further lines are dropped and counted. */
  maxBytes: number
  /** Called with their number once everything that waited has been written. */
  onDropped: (lines: number) => void
}

/**
 * Writes lines to a file descriptor. Whatever is wrong with it (a slow or stalled reader, a full disk, a broken device), the main
 * thread neither waits nor fails: lines wait in memory, and a failed write is tried again. If the reader of a pipe is gone, lines are
 * discarded. pino's own destination ends the process instead, and its `flushSync` tries forever.
 */
export class LineWriter {
  readonly #fd: number
  readonly #options: Options
  /** The first one is being written, or was written in part. */
  readonly #chunks: Buffer[] = []
  #bytes = 0
  #dropped = 0
  #isWriting = false
  #isGone = false
  #retry: NodeJS.Timeout | undefined
  #flushes: (() => void)[] = []

  constructor(fd: number, options: Options) {
    this.#fd = fd
    this.#options = options
  }

  /** @param lines complete, each with its line break */
  write(lines: string): void {
    if (this.#isGone) return
    const chunk = Buffer.from(lines)
    if (this.#bytes + chunk.length > this.#options.maxBytes) {
      this.#dropped += lines.split('\n').length - 1
      return
    }
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    if (this.#retry === undefined) this.#next()
  }

  /** Calls `done` when everything is written, or when that has failed. */
  flush(done: () => void): void {
    this.#flushes.push(done)
    this.#next()
  }

  /**
   * For the end of the process: writes what waits, and then `lines`, as far as possible.
   * @returns why lines are lost, unless nobody reads them
   */
  end(lines: string): Error | undefined {
    if (this.#isGone) return
    // That one ends by itself.
    if (this.#isWriting) this.#chunks.shift()
    if (lines !== '') this.#chunks.push(Buffer.from(lines))
    for (const giveUp = performance.now() + LAST_MS; this.#chunks[0] !== undefined; ) {
      try {
        this.#advance(writeSync(this.#fd, this.#chunks[0]))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EPIPE') return
        if (!isBusy(error) || performance.now() > giveUp) return error as Error
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, BUSY_MS)
      }
    }
  }

  #next(): void {
    clearTimeout(this.#retry)
    this.#retry = undefined
    if (this.#isWriting) return
    const [chunk] = this.#chunks
    if (chunk === undefined) {
      this.#settle()
      return
    }
    this.#isWriting = true
    write(this.#fd, chunk, (error, written) => {
      this.#isWriting = false
      if (error !== null) return this.#fail(error)
      this.#advance(written)
      this.#next()
    })
  }

  #advance(written: number): void {
    this.#bytes -= written
    const rest = this.#chunks[0]?.subarray(written)
    if (rest === undefined || rest.length === 0) this.#chunks.shift()
    else this.#chunks[0] = rest
  }

  #fail(error: NodeJS.ErrnoException): void {
    if (error.code === 'EPIPE') {
      this.#isGone = true
      this.#chunks.length = 0
      this.#bytes = 0
    } else {
      this.#retry = setTimeout(() => this.#next(), isBusy(error) ? BUSY_MS : FAILED_MS)
      // The process may end: trying again will probably fail as well.
      if (!isBusy(error)) this.#retry.unref()
    }
    if (!isBusy(error)) this.#endFlushes()
  }

  #settle(): void {
    const dropped = this.#dropped
    this.#dropped = 0
    if (dropped > 0) this.#options.onDropped(dropped)
    this.#endFlushes()
  }

  #endFlushes(): void {
    const flushes = this.#flushes
    this.#flushes = []
    for (const done of flushes) done()
  }
}

const isBusy = (error: unknown) => /^(?:EAGAIN|EBUSY)$/.test((error as NodeJS.ErrnoException).code ?? '')
