/**
 * How long the turns of this thread's event loop are, in milliseconds of its own processor time: what others do on the machine
 * makes no turn longer, and what the collector and zlib do on other threads blocks nobody.
 */
export function watchTurns() {
  let longest = 0
  let before = process.threadCpuUsage()
  let immediate = setImmediate(look)

  function look(): void {
    const { user, system } = process.threadCpuUsage(before)
    longest = Math.max(longest, (user + system) / 1000)
    before = process.threadCpuUsage()
    immediate = setImmediate(look)
  }
  return {
    /** The longest since the last time this was asked. */
    takeLongest(): number {
      const found = longest
      longest = 0
      return found
    },
    stop: () => clearImmediate(immediate),
  }
}
