/**
 * The least number of new rows in a row before a COPY. A COPY that fails leaves dead rows, and an error in PostgreSQL's log. Each
 * failure therefore doubles the number, and each row that is copied lowers it again.
 */
const FRESH_ROWS = 10_000
/** For fewer rows, starting a COPY costs more than it saves. */
const COPY_ROWS = 16

/** Decides which flushes are written with COPY: those whose rows are probably all new. Call `opensFor` before each write. */
export class CopyGate {
  /** How many rows in a row were new. */
  #fresh = 0
  /** How many must have been new before the next COPY. */
  #required = FRESH_ROWS

  /** Should this many rows be copied? */
  opensFor(rows: number): boolean {
    return this.#fresh >= this.#required && rows >= COPY_ROWS
  }

  /** A COPY has stored all its rows. */
  copied(rows: number): void {
    this.#fresh += rows
    this.#required = Math.max(FRESH_ROWS, this.#required - rows)
  }

  /** A COPY has stored nothing, because a row was already stored or is refused. */
  copyFailed(): void {
    this.#required *= 2
  }

  /** An INSERT has written rows, all of them new or not. */
  inserted(rows: number, allNew: boolean): void {
    this.#fresh = allNew ? this.#fresh + rows : 0
  }

  /** A write has failed. */
  failed(): void {
    this.#fresh = 0
  }
}
