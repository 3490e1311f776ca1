/** Runs `work` once at a time: calls while it runs share that run and its result. The next call runs it again. */
export class SingleFlight<T> {
  readonly #work: () => Promise<T>
  #running: Promise<T> | undefined

  constructor(work: () => Promise<T>) {
    this.#work = work
  }

  run(): Promise<T> {
    this.#running ??= this.#work().finally(() => {
      this.#running = undefined
    })
    return this.#running
  }

  /** Resolves when the current run, if any, ends. It does not fail if the run fails. */
  async idle(): Promise<void> {
    await this.#running?.catch(() => {})
  }
}
