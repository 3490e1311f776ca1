import { SingleFlight } from '../lib/single-flight.ts'

/**
 * Whether the database is available to the writer:
 *
 *   available ────a write fails in a way that shows an outage────────▶ unavailable
 *   unavailable ──the database responds to a write or a ping─────────▶ available
 *
 * Any response counts, also an error that rejects a row. Time alone does not end an outage. While no request waits, no write
 * shows that the database is available again, so the writer pings it.
 */
export class Outage {
  #isActive = false
  #cause: unknown
  readonly #ping: SingleFlight<void>
  readonly #onChange: (error?: unknown) => void

  /**
   * @param ping resolves if the database responds
   * @param onChange called with the error when an outage begins, and without one when it ends
   */
  constructor(ping: () => Promise<void>, onChange: (error?: unknown) => void) {
    this.#ping = new SingleFlight(ping)
    this.#onChange = onChange
  }

  get isActive(): boolean {
    return this.#isActive
  }

  /** The last failure that showed the outage; undefined if the database is available. */
  get cause(): unknown {
    return this.#cause
  }

  /** Notes a failure that shows an outage. Later failures only replace the cause. */
  noteFailure(error: unknown): void {
    this.#cause = error
    if (this.#isActive) return
    this.#isActive = true
    this.#onChange(error)
  }

  /** Notes a response of the database. */
  noteResponse(): void {
    if (!this.#isActive) return
    this.#isActive = false
    this.#cause = undefined
    this.#onChange()
  }

  /** Sends a ping, unless one is running. */
  ping(): void {
    this.#ping.run().then(
      () => this.noteResponse(),
      () => {},
    )
  }
}
