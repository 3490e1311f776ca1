/** The target duration of a batch. The feed waits for the transaction while it writes, so it must be short. */
const BATCH_MS = 100
const RECORDS = { first: 2_000, min: 100, max: 20_000 }

/** Chooses how many records a transaction counts: those that take about a tenth of a second. */
export class BatchSize {
  #records = RECORDS.first

  /**
   * Counts a batch.
   * @param count gets about how many records to count, and returns how many it has counted; undefined: it did not try
   * @returns `isFull`: there may be more
   * @throws what `count` throws; then the next batch is small, in case the batch was too large
   */
  async run(
    count: (limit: number) => Promise<number | undefined>,
  ): Promise<{ counted: number | undefined; isFull: boolean }> {
    const limit = this.#records
    const begin = performance.now()
    try {
      const counted = await count(limit)
      const isFull = counted !== undefined && counted >= limit
      const ms = performance.now() - begin
      // A batch that is not full says nothing about larger ones.
      if (isFull || ms > BATCH_MS) this.#records = clamp(Math.round(limit * clampFactor(BATCH_MS / ms)))
      return { counted, isFull }
    } catch (error) {
      this.#records = RECORDS.min
      throw error
    }
  }
}

const clamp = (records: number) => Math.min(Math.max(records, RECORDS.min), RECORDS.max)
const clampFactor = (factor: number) => Math.min(Math.max(factor, 0.25), 2)
