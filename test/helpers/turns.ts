/**
 * Measures the turns of this thread's event loop, in milliseconds of its processor time. Other processes do not count. Neither do
 * the garbage collector and zlib on other threads, because they do not block the event loop.
 */
export function watchEventLoop() {
  let longest = 0
  let before = process.threadCpuUsage()
  let immediate = setImmediate(measure)

  function measure(): void {
    const { user, system } = process.threadCpuUsage(before)
    longest = Math.max(longest, (user + system) / 1000)
    before = process.threadCpuUsage()
    immediate = setImmediate(measure)
  }
  return {
    /** The longest turn since the last call. */
    takeLongest(): number {
      const found = longest
      longest = 0
      return found
    },
    stop: () => clearImmediate(immediate),
  }
}
