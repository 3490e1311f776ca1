import t, { type Test } from 'tap'
import { Problem } from '../../src/lib/problems.ts'
import { type Measurement, StorageBudget, type StorageState } from '../../src/operate/storage-budget.ts'
import { stopClock, turn } from '../helpers/clock.ts'

const BUDGET = 1000
const SECOND = 1000

/** A budget of 1,000 bytes, measured as the test says: `size.used` of it, `size.occupied` of it with the space inside. */
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
    /** Second by second: between two there is a turn of the event loop. */
    pass: async (seconds: number) => {
      for (let second = 0; second < seconds; second++) await clock.tick(SECOND)
    },
    becomes: async (bytes: number, occupied = bytes) => {
      Object.assign(size, { used: bytes, occupied })
      for (let second = 0; second < 5; second++) await clock.tick(SECOND)
    },
  }
}

/** Is a request refused? */
function isFull(budget: StorageBudget): boolean {
  try {
    budget.check()
    return false
  } catch (error) {
    if (error instanceof Problem && error.code === 'storage_full') return true
    throw error
  }
}

t.test('without a budget nothing is measured, and nothing refused', async (t) => {
  const clock = stopClock(t)
  const nothing = () => t.fail('nobody asked for it')
  const budget = new StorageBudget({
    budgetBytes: undefined,
    measure: async () => {
      nothing()
      return { used: 0, occupied: 0 }
    },
    inFlight: () => 1e12,
    onChange: nothing,
    onError: nothing,
  })
  budget.start()
  budget.add(1e12)
  await clock.tick(60 * SECOND)
  t.notOk(isFull(budget))
  t.match(budget, { state: 'ok', usedBytes: undefined, budgetBytes: undefined })
})

t.test('below 80 % all is well; from there a warning, from 90 % a refusal; each is told once', async (t) => {
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

t.test('what was full is not before 85 %, and then only when it stays so for 12 seconds', async (t) => {
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
  t.equal(budget.state, 'full', 'not when it went up meanwhile')
  await becomes(700)
  t.equal(budget.state, 'ok')
  t.notOk(isFull(budget))
  t.same(changes, ['full', 'ok'])
})

t.test('between two measurements what was sent counts, twice, so that a fast writer cannot overshoot', async (t) => {
  const { budget, becomes, changes } = await setUp(t, 800)
  budget.add(49)
  t.notOk(isFull(budget), '898')
  budget.add(1)
  t.ok(isFull(budget), '900')
  t.equal(budget.state, 'warning', 'but that is a guess')
  await becomes(810)
  t.notOk(isFull(budget), 'and a measurement puts it right')
  t.same(changes, ['warning'])
})

t.test('bodies that are not written yet count as well', async (t) => {
  const { budget, setInFlight } = await setUp(t, 800)
  setInFlight(49)
  t.notOk(isFull(budget))
  setInFlight(50)
  t.ok(isFull(budget))
  setInFlight(0)
  t.notOk(isFull(budget))
})

t.test('what is sent while a measurement is under way counts after it', async (t) => {
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
  'it is measured every five seconds; a fast writer has it measured sooner, but once a second at most',
  async (t) => {
    const { budget, measured, pass } = await setUp(t, 100)
    await pass(20)
    t.equal(measured(), 5)
    for (let times = 0; times < 100; times++) budget.add(6)
    await turn()
    t.equal(measured(), 5, 'just now')
    await pass(1)
    budget.add(6)
    await turn()
    t.equal(measured(), 6)
  },
)

t.test('files beyond 97 % are refused, whatever there seems to be inside of them', async (t) => {
  const { budget, becomes } = await setUp(t, 100)
  await becomes(500, 969)
  t.notOk(isFull(budget))
  await becomes(500, 970)
  t.ok(isFull(budget))
})

t.test('while it cannot be measured the last measurement holds, and writes add up', async (t) => {
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

// Free space that is gone again was none: what VACUUM frees and the writes of a moment take back would let some in each time.
t.test('a budget that is spent again meanwhile has to have room for its time anew', async (t) => {
  const { budget, becomes } = await setUp(t, 950)
  await becomes(800)
  await becomes(950)
  await becomes(800)
  await becomes(800)
  t.equal(budget.state, 'full', 'room for five seconds')
  await becomes(800)
  await becomes(800)
  t.not(budget.state, 'full')
})
