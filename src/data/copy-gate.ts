/**
 * Minimum number of consecutive new rows before a COPY. A COPY that fails leaves dead rows, and an error in PostgreSQL's log. Each
 * failure therefore doubles the number, and each row that is copied lowers it again.
 */
const FRESH_ROWS = 10_000
/** Minimum number of rows of a COPY. For fewer rows, starting it costs more than it saves. */
const COPY_ROWS = 16

/** Decides which flushes are written with COPY: those whose rows are probably all new. Call `opensFor` before each write. */
export class CopyGate {
  /** Number of consecutive new rows. */
  #fresh = 0
  /** How many there must be before the next COPY. */
  #required = FRESH_ROWS

  /** Whether to write a flush of this many rows with COPY. */
  opensFor(rows: number): boolean {
    return this.#fresh >= this.#required && rows >= COPY_ROWS
  }

  /** Notes that a COPY has stored all its rows. */
  copied(rows: number): void {
    this.#fresh += rows
    this.#required = Math.max(FRESH_ROWS, this.#required - rows)
  }

  /** Notes that a COPY has stored nothing, because a row was already stored or is rejected. */
  copyFailed(): void {
    this.#required *= 2
  }

  /** Notes that an INSERT has written rows. */
  inserted(rows: number, allNew: boolean): void {
    this.#fresh = allNew ? this.#fresh + rows : 0
  }

  /** Notes that a write has failed. */
  failed(): void {
    this.#fresh = 0
  }
}
