/**
 * Coalesces calls: the first one does the work at once, and those during the work or the pause after it do it once more.
 * @param work must not throw
 * @param pauseMs how long after the work it is not done again
 */
export function coalesce(work: () => Promise<void>, pauseMs: number): () => void {
  let isBusy = false
  let isWanted = false
  const run = async () => {
    isBusy = true
    isWanted = false
    await work()
    setTimeout(() => {
      isBusy = false
      if (isWanted) void run()
    }, pauseMs).unref()
  }
  return () => {
    isWanted = true
    if (!isBusy) void run()
  }
}
