import type { Database } from '../data/schema.ts'
import { selectReusableBytes, selectStorageSize } from '../data/storage.ts'
import { Problem } from '../lib/problems.ts'

export type StorageState = 'ok' | 'warning' | 'full'

export interface Measurement {
  /** Files and log, in bytes. */
  occupied: number
  /** … without the space inside of them that PostgreSQL will use again. */
  used: number
}

/** Shares of the budget. */
const WARNING = 0.8
const FULL = 0.9
/** Below it, what was full is not: far enough from full for one to be told from the other. */
const FREE_AGAIN = 0.85
/**
 * What is used is an estimate, and what is occupied is none: past this share nothing is taken, whatever there seems to
 * be inside. An error of the estimate cannot fill the disk.
 */
const CEILING = 0.97

/** How often is measured. */
const MEASURE_MS = 5_000
/** … and sooner, once as much of the budget was written since, */
const MEASURE_AFTER = 0.01
/** … but so often at most. */
const LEAST_PAUSE_MS = 1_000
/** What a byte of a body becomes in the files, with the row around it and its entries in the indexes. */
const GROWTH = 2
/** Rows that were just deleted are no free space before they are vacuumed, and PostgreSQL counts them ten seconds late. */
const SETTLE_MS = 12_000

export interface StorageBudgetOptions {
  /** undefined: no budget, and nothing is measured. */
  budgetBytes: number | undefined
  measure: () => Promise<Measurement>
  /** Bytes of bodies that are not written yet. */
  inFlight: () => number
  onChange: (state: StorageState) => void
  /** A measurement failed; the last one holds. */
  onError: (error: unknown) => void
}

/**
 * Keeps the database within its budget: measures it now and then, adds up in between what was sent to it, and refuses
 * records, before their body is read, while there is no room.
 */
export class StorageBudget {
  readonly #options: StorageBudgetOptions
  #measured: Measurement | undefined
  #state: StorageState = 'ok'
  /** Since when it was found below FREE_AGAIN. */
  #freeSince: number | undefined
  /** Bytes of bodies since the last measurement. */
  #added = 0
  #measuring: Promise<void> | undefined
  #measuredAt = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | undefined

  constructor(options: StorageBudgetOptions) {
    this.#options = options
  }

  get budgetBytes(): number | undefined {
    return this.#options.budgetBytes
  }

  /** As it was last measured. */
  get usedBytes(): number | undefined {
    return this.#measured?.used
  }

  get state(): StorageState {
    return this.#state
  }

  start(): void {
    if (this.budgetBytes === undefined) return
    void this.#measure()
    this.#timer = setInterval(() => this.#measure(), MEASURE_MS)
    this.#timer.unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#measuring
  }

  /** Bytes of bodies that are written, or given up. */
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
      'The database has used the space it may use. Nothing more is stored until space is free; reading goes on.',
    )
  }

  #measureEarly(): void {
    if (performance.now() - this.#measuredAt >= LEAST_PAUSE_MS) void this.#measure()
  }

  #measure(): Promise<void> {
    this.#measuring ??= this.#measureNow().finally(() => {
      this.#measuring = undefined
    })
    return this.#measuring
  }

  async #measureNow(): Promise<void> {
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

/** Looks for free space only where it matters: to do so reads pages of the table. */
export async function measureStorage(db: Database, budgetBytes: number): Promise<Measurement> {
  const { files, wal } = await selectStorageSize(db)
  const occupied = files + wal
  const reusable = occupied < budgetBytes * WARNING ? 0 : await selectReusableBytes(db)
  return { occupied, used: occupied - reusable }
}
