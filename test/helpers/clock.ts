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

/** Takes setTimeout, setInterval and performance.now() over, until `t` is over: time passes when the test says so. */
export function stopClock(t: Test): Clock {
  const now = performance.now
  // A whole number: with a fraction, sums of milliseconds are off by the last bit now and then.
  let time = Math.ceil(now.call(performance))
  performance.now = () => time
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
  // The refresh() of its timers does nothing.
  const { setTimeout: set } = globalThis
  globalThis.setTimeout = ((...given: Parameters<typeof set>) => {
    const timer = set(...given)
    timer.refresh = () => {
      set(...given)
      return timer
    }
    return timer
  }) as typeof set
  t.teardown(() => {
    mock.timers.reset()
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
