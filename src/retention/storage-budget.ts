import { selectReusableBytes, selectStorageSize } from '../data/storage.ts'
import { SingleFlight } from '../lib/single-flight.ts'
import type { Database } from '../postgres/tables.ts'
import { Problem } from '../problems.ts'

export type StorageState = 'ok' | 'warning' | 'full'

export interface Measurement {
  /** Database files and write-ahead log, in bytes. */
  occupied: number
  /** The same without the space in the files that PostgreSQL will reuse. */
  used: number
}

/** Shares of the budget. */
const WARNING = 0.8
/** From here on, records are refused. */
export const FULL = 0.9
/** The state `full` ends below this share. It is lower than FULL, so that the state does not flap. */
const FREE_AGAIN = 0.85
/**
 * `used` is an estimate, but `occupied` is measured. Above this share of occupied space, requests are refused, however much space
 * seems to be reusable. So a wrong estimate cannot fill the disk.
 */
const CEILING = 0.97

/** Time between two regular measurements. */
const MEASURE_MS = 5_000
/** Measures early if this share of the budget was written since the last measurement. */
const MEASURE_AFTER = 0.01
/** Minimum time between two measurements. */
const MIN_PAUSE_MS = 1_000
/** Bytes in the files per byte of a body, with the row header and the index entries. */
const GROWTH = 2
/** Deleted rows are free space only after a VACUUM, and PostgreSQL counts them with a delay of ten seconds. */
const SETTLE_MS = 12_000

interface StorageBudgetOptions {
  /** undefined: there is no budget, and nothing is measured. */
  budgetBytes: number | undefined
  measure: () => Promise<Measurement>
  /** Bytes of bodies that are not written yet. */
  inFlight: () => number
  onChange: (state: StorageState) => void
  /** Called when a measurement fails. The last one stays in use. */
  onError: (error: unknown) => void
}

/**
 * Keeps the database within its budget. It measures the size regularly and adds what was written since then. While the budget is
 * used up, requests are refused before their body is read.
 */
export class StorageBudget {
  readonly #options: StorageBudgetOptions
  #measured: Measurement | undefined
  #state: StorageState = 'ok'
  /** Since when measurements are below FREE_AGAIN. */
  #freeSince: number | undefined
  /** Bytes of bodies since the last measurement. */
  #added = 0
  readonly #measuring = new SingleFlight(() => this.#measure())
  #measuredAt = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | undefined

  constructor(options: StorageBudgetOptions) {
    this.#options = options
  }

  get budgetBytes(): number | undefined {
    return this.#options.budgetBytes
  }

  /** As of the last measurement. */
  get usedBytes(): number | undefined {
    return this.#measured?.used
  }

  get state(): StorageState {
    return this.#state
  }

  start(): void {
    if (this.budgetBytes === undefined) return
    void this.#measuring.run()
    this.#timer = setInterval(() => this.#measuring.run(), MEASURE_MS)
    this.#timer.unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#measuring.idle()
  }

  /** Adds the bytes of a body that was written, or whose write was given up. */
  add(bytes: number): void {
    if (this.budgetBytes === undefined) return
    this.#added += bytes
    if (this.#added * GROWTH > this.budgetBytes * MEASURE_AFTER) this.#measureEarly()
  }

  /** @throws Problem storage_full */
  check(): void {
    const budget = this.budgetBytes
    if (budget === undefined || this.#measured === undefined) return
    const expected = this.#measured.used + (this.#added + this.#options.inFlight()) * GROWTH
    if (this.#state !== 'full' && expected < budget * FULL) return
    this.#measureEarly()
    throw new Problem(
      'storage_full',
      'The database has used all the space that it may use. No records are stored until space is free. Reading still works. The operator can raise STORAGE_BUDGET, or delete records with "sluice maintain".',
    )
  }

  #measureEarly(): void {
    if (performance.now() - this.#measuredAt >= MIN_PAUSE_MS) void this.#measuring.run()
  }

  async #measure(): Promise<void> {
    this.#measuredAt = performance.now()
    const before = this.#added
    try {
      this.#measured = await this.#options.measure()
    } catch (error) {
      this.#options.onError(error)
      return
    }
    this.#added -= before
    this.#enter(this.#judge(this.#measured))
  }

  #judge({ occupied, used }: Measurement): StorageState {
    const budget = this.budgetBytes as number
    if (used >= budget * FULL || occupied >= budget * CEILING) {
      this.#freeSince = undefined
      return 'full'
    }
    const now = performance.now()
    if (used >= budget * FREE_AGAIN) this.#freeSince = undefined
    else this.#freeSince ??= now
    if (this.#state === 'full' && now - (this.#freeSince ?? now) < SETTLE_MS) return 'full'
    return used >= budget * WARNING ? 'warning' : 'ok'
  }

  #enter(state: StorageState): void {
    if (state === this.#state) return
    this.#state = state
    this.#options.onChange(state)
  }
}

/** The space that the database needs, in bytes: without what PostgreSQL will reuse, whatever the budget is. */
export async function measureNeeded(db: Database): Promise<number> {
  const { files, wal } = await selectStorageSize(db)
  return files + wal - (await selectReusableBytes(db))
}

/** Estimates the reusable space only if it matters, because this reads pages of the table. */
export async function measureStorage(db: Database, budgetBytes: number): Promise<Measurement> {
  const { files, wal } = await selectStorageSize(db)
  const occupied = files + wal
  const reusable = occupied < budgetBytes * WARNING ? 0 : await selectReusableBytes(db)
  return { occupied, used: occupied - reusable }
}
