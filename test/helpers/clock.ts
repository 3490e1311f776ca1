import { mock } from 'node:test'
import { setImmediate as nextIteration } from 'node:timers/promises'
import type { Test } from 'tap'

interface Clock {
  /** Advances the clock and runs the timers that are due. */
  tick(milliseconds: number): Promise<void>
  /** The same within this iteration of the event loop, so that nothing but the timers runs. */
  jump(milliseconds: number): void
}

/** Waits for one iteration of the event loop. Then everything that waits for no other event has happened. */
export const turn = () => nextIteration()

/** Mocks setTimeout and setInterval until `t` ends. Timers that are set from now on fire on mock.timers.tick(). */
export function stopTimers(t: Test): void {
  const before = { clearTimeout, clearInterval }
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
  t.teardown(() => mock.timers.reset())
  const mocked = { setTimeout, clearTimeout, clearInterval }
  // Timers that were set before can still be cleared.
  for (const clear of ['clearTimeout', 'clearInterval'] as const) {
    globalThis[clear] = (timer) => {
      before[clear](timer)
      mocked[clear](timer)
    }
  }
  // The refresh() of mocked timers does nothing, so it is replaced.
  globalThis.setTimeout = ((...args: Parameters<typeof setTimeout>) => {
    const timer = mocked.setTimeout(...args)
    timer.refresh = () => {
      mocked.setTimeout(...args)
      return timer
    }
    return timer
  }) as typeof setTimeout
}

/** Replaces setTimeout, setInterval and performance.now() until `t` ends. Time passes only when the test advances the clock. */
export function stopClock(t: Test): Clock {
  const now = performance.now
  // A whole number. With a fraction, sums of milliseconds sometimes differ in the last bit.
  let time = Math.ceil(now.call(performance))
  performance.now = () => time
  stopTimers(t)
  t.teardown(() => {
    performance.now = now
  })
  const jump = (milliseconds: number) => {
    time += milliseconds
    mock.timers.tick(milliseconds)
  }
  return {
    jump,
    async tick(milliseconds) {
      await turn()
      jump(milliseconds)
      await turn()
    },
  }
}
