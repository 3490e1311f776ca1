import { finished, type Readable } from 'node:stream'
import { toBodyProblem } from './inflate.ts'

/**
 * Reads a body chunk by chunk. Unlike `for await`, it can be interrupted while it waits for the sender, and it never
 * destroys the body: that would close the connection before the response is sent.
 */
export class BodyReader {
  readonly #body: Readable
  readonly #stop: AbortSignal
  readonly #release: () => void
  /** The error that broke the body. */
  #error: unknown
  #wake: () => void = () => {}

  /** @param stop interrupts reading: `next` then throws the signal's reason */
  constructor(body: Readable, stop: AbortSignal) {
    this.#body = body
    this.#stop = stop
    const wake = () => this.#wake()
    const release = finished(body, { writable: false }, (error) => {
      this.#error = error
      wake()
    })
    body.on('readable', wake).on('end', wake)
    stop.addEventListener('abort', wake)
    this.#release = () => {
      release()
      body.off('readable', wake).off('end', wake)
      stop.removeEventListener('abort', wake)
    }
  }

  /** The next chunk; undefined at the end. @throws Problem if the body is broken; the reason of `stop` */
  async next(): Promise<Buffer | undefined> {
    for (;;) {
      this.#stop.throwIfAborted()
      const bytes = this.#body.destroyed ? null : this.#body.read()
      if (bytes !== null) return bytes
      if (this.#error) throw toBodyProblem(this.#error)
      if (this.#body.readableEnded) return undefined
      await this.nextEvent()
    }
  }

  /** Resolves when there is more to read, the body ended or broke, or `stop` was aborted. Supports one caller at a time. */
  nextEvent(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }

  /** Removes all listeners from the body, so that other code can read the rest. */
  close(): void {
    this.#release()
  }
}
