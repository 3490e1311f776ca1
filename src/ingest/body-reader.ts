import { finished, type Readable } from 'node:stream'
import { toBodyProblem } from './inflate.ts'

/**
 * Reads a body piece by piece. Unlike `for await` it can be interrupted while it waits for the sender, and it never
 * destroys the body: that would take the connection along, on which the answer travels.
 */
export class BodyReader {
  readonly #body: Readable
  readonly #stop: AbortSignal
  readonly #release: () => void
  /** What broke the body. */
  #error: unknown
  #wake: () => void = () => {}

  /** @param stop ends the reading; its reason is what `next` throws then */
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

  /** The next piece; undefined at the end. @throws Problem for what broke the body; the reason of `stop` */
  async next(): Promise<Buffer | undefined> {
    for (;;) {
      this.#stop.throwIfAborted()
      const bytes = this.#body.destroyed ? null : this.#body.read()
      if (bytes !== null) return bytes
      if (this.#error) throw toBodyProblem(this.#error)
      if (this.#body.readableEnded) return undefined
      await this.news()
    }
  }

  /** Until there is more to read, the body has ended or broken, or the reading is to stop. For one caller at a time. */
  news(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve
    })
  }

  /** Lets go of the body, which somebody else may use up. */
  close(): void {
    this.#release()
  }
}
