import { mock } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Test } from 'tap'

export interface Clock {
  /** Lets time pass: runs the timers that are due then. */
  tick(milliseconds: number): Promise<void>
  /** The same within this turn of the event loop: nothing happens before or after but the timers. */
  jump(milliseconds: number): void
}

/** One turn of the event loop, after which everything that waits for nothing else has happened. */
export const turn = () => nextTurn()

/** Mocks setTimeout and setInterval until `t` ends. Timers that are set from now on fire when mock.timers.tick() reaches them. */
export function stopTimers(t: Test): void {
  const before = { clearTimeout, clearInterval }
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
  t.teardown(() => mock.timers.reset())
  const mocked = { setTimeout, clearTimeout, clearInterval }
  // Those that were set before can still be cleared.
  for (const clear of ['clearTimeout', 'clearInterval'] as const) {
    globalThis[clear] = (timer) => {
      before[clear](timer)
      mocked[clear](timer)
    }
  }
  // The refresh() of the mocked ones does nothing.
  globalThis.setTimeout = ((...given: Parameters<typeof setTimeout>) => {
    const timer = mocked.setTimeout(...given)
    timer.refresh = () => {
      mocked.setTimeout(...given)
      return timer
    }
    return timer
  }) as typeof setTimeout
}

/** Takes setTimeout, setInterval and performance.now() over, until `t` is over: time passes when the test says so. */
export function stopClock(t: Test): Clock {
  const now = performance.now
  // A whole number: with a fraction, sums of milliseconds are off by the last bit now and then.
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
