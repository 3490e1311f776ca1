import t, { type Test } from 'tap'
import { Problem } from '../../src/problems.ts'
import { type Measurement, StorageBudget, type StorageState } from '../../src/retention/storage-budget.ts'
import { stopClock, turn } from '../helpers/clock.ts'

const BUDGET = 1000
const SECOND = 1000

/** A budget of 1,000 bytes. The measurements return `size`; its `occupied` includes the free space inside the files. */
async function setUp(t: Test, used: number) {
  const clock = stopClock(t)
  const size: Measurement & { error?: Error } = { used, occupied: used }
  const changes: StorageState[] = []
  const errors: unknown[] = []
  let inFlight = 0
  let measured = 0
  const budget = new StorageBudget({
    budgetBytes: BUDGET,
    measure: async () => {
      measured++
      if (size.error !== undefined) throw size.error
      return { used: size.used, occupied: size.occupied }
    },
    inFlight: () => inFlight,
    onChange: (state) => changes.push(state),
    onError: (error) => errors.push(error),
  })
  budget.start()
  t.teardown(() => budget.stop())
  await turn()
  return {
    budget,
    size,
    changes,
    errors,
    measured: () => measured,
    setInFlight: (bytes: number) => {
      inFlight = bytes
    },
    /** Advances the clock second by second, with iterations of the event loop in between. */
    pass: async (seconds: number) => {
      for (let second = 0; second < seconds; second++) await clock.tick(SECOND)
    },
    becomes: async (bytes: number, occupied = bytes) => {
      Object.assign(size, { used: bytes, occupied })
      for (let second = 0; second < 5; second++) await clock.tick(SECOND)
    },
  }
}

/** Whether requests are refused. */
function isFull(budget: StorageBudget): boolean {
  try {
    budget.check()
    return false
  } catch (error) {
    if (error instanceof Problem && error.code === 'storage_full') return true
    throw error
  }
}

t.test('without a budget, nothing is measured and nothing is refused', async (t) => {
  const clock = stopClock(t)
  const mustNotBeCalled = () => t.fail('it must not be called')
  const budget = new StorageBudget({
    budgetBytes: undefined,
    measure: async () => {
      mustNotBeCalled()
      return { used: 0, occupied: 0 }
    },
    inFlight: () => 1e12,
    onChange: mustNotBeCalled,
    onError: mustNotBeCalled,
  })
  budget.start()
  budget.add(1e12)
  await clock.tick(60 * SECOND)
  t.notOk(isFull(budget))
  t.match(budget, { state: 'ok', usedBytes: undefined, budgetBytes: undefined })
})

t.test('from 80 % there is a warning, from 90 % requests are refused, and each change is reported once', async (t) => {
  const { budget, changes, becomes, pass } = await setUp(t, 799)
  t.same([budget.state, budget.usedBytes, isFull(budget)], ['ok', 799, false])
  await becomes(800)
  t.same([budget.state, isFull(budget)], ['warning', false])
  await becomes(899)
  t.same([budget.state, isFull(budget)], ['warning', false])
  await becomes(900)
  t.same([budget.state, budget.usedBytes, isFull(budget)], ['full', 900, true])
  await pass(60)
  t.same(changes, ['warning', 'full'])
})

t.test('after 90 %, requests are admitted when usage has been below 85 % for more than ten seconds', async (t) => {
  const { budget, changes, becomes } = await setUp(t, 900)
  await becomes(850)
  await becomes(851)
  t.equal(budget.state, 'full', 'not at 85 %')
  await becomes(849)
  await becomes(849)
  await becomes(849)
  t.equal(budget.state, 'full', 'not after 10 seconds')
  await becomes(860)
  await becomes(700)
  await becomes(700)
  await becomes(700)
  t.equal(budget.state, 'full', 'not if usage went up in the meantime')
  await becomes(700)
  t.equal(budget.state, 'ok')
  t.notOk(isFull(budget))
  t.same(changes, ['full', 'ok'])
})

t.test('between two measurements, written bytes count twice, so that a fast writer cannot overshoot', async (t) => {
  const { budget, becomes, changes } = await setUp(t, 800)
  budget.add(49)
  t.notOk(isFull(budget), '898')
  budget.add(1)
  t.ok(isFull(budget), '900')
  t.equal(budget.state, 'warning', 'an estimate does not change the state')
  await becomes(810)
  t.notOk(isFull(budget), 'a measurement replaces the estimate')
  t.same(changes, ['warning'])
})

t.test('bodies that are not written yet count twice as well', async (t) => {
  const { budget, setInFlight } = await setUp(t, 800)
  setInFlight(49)
  t.notOk(isFull(budget))
  setInFlight(50)
  t.ok(isFull(budget))
  setInFlight(0)
  t.notOk(isFull(budget))
})

t.test('bytes that are written during a measurement count after it', async (t) => {
  const { budget, pass } = await setUp(t, 800)
  let finish = (_: Measurement) => {}
  const slow = new StorageBudget({
    budgetBytes: BUDGET,
    measure: () => new Promise((resolve) => (finish = resolve)),
    inFlight: () => 0,
    onChange: () => {},
    onError: () => {},
  })
  slow.add(1)
  slow.start()
  slow.add(50)
  finish({ used: 800, occupied: 800 })
  await turn()
  t.ok(isFull(slow))
  await slow.stop()
  await pass(1)
  t.notOk(isFull(budget))
})

t.test(
  'storage is measured every five seconds, and with a fast writer sooner, but at most once a second',
  async (t) => {
    const { budget, measured, pass } = await setUp(t, 100)
    await pass(20)
    t.equal(measured(), 5)
    for (let times = 0; times < 100; times++) budget.add(6)
    await turn()
    t.equal(measured(), 5, 'not again within a second')
    await pass(1)
    budget.add(6)
    await turn()
    t.equal(measured(), 6)
  },
)

t.test('if the files use 97 % of the budget, requests are refused, however much space in them is free', async (t) => {
  const { budget, becomes } = await setUp(t, 100)
  await becomes(500, 969)
  t.notOk(isFull(budget))
  await becomes(500, 970)
  t.ok(isFull(budget))
})

t.test('while measurements fail, the last one is used, and written bytes are added to it', async (t) => {
  const { budget, size, errors, pass, changes } = await setUp(t, 800)
  size.error = new Error('away')
  await pass(5)
  t.same(errors, [size.error])
  t.match(budget, { usedBytes: 800, state: 'warning' })
  budget.add(50)
  await pass(30)
  t.ok(isFull(budget))
  t.same(changes, ['warning'])
})

t.test('before the first measurement nothing is refused', async (t) => {
  const { budget, size, pass } = await setUp(t, 100)
  t.notOk(isFull(budget))
  const unknown = new StorageBudget({
    budgetBytes: BUDGET,
    measure: async () => {
      throw size.error ?? new Error('away')
    },
    inFlight: () => 0,
    onChange: () => {},
    onError: () => {},
  })
  unknown.start()
  t.teardown(() => unknown.stop())
  unknown.add(1e6)
  await pass(1)
  t.notOk(isFull(unknown))
})

// VACUUM can free space that the next writes use at once. Each time, some requests would be admitted and then refused again.
t.test('if the budget fills up again, free space has to last for the whole time again', async (t) => {
  const { budget, becomes } = await setUp(t, 950)
  await becomes(800)
  await becomes(950)
  await becomes(800)
  await becomes(800)
  t.equal(budget.state, 'full', 'there was free space for five seconds only')
  await becomes(800)
  await becomes(800)
  t.not(budget.state, 'full')
})
