import t from 'tap'
import { MemoryBudget } from '../../src/lib/memory-budget.ts'

const refusal = { code: 'overloaded' }

t.test('one owner can hold half, and later owners get ever smaller shares of the rest', async (t) => {
  const budget = new MemoryBudget(1000, 'Later.')
  for (let taken = 0; taken < 500; taken += 100) budget.reserve('greedy', 100)
  t.throws(() => budget.reserve('greedy', 100), { ...refusal, message: /greedy already uses its share/ })
  t.equal(budget.used, 500, 'a refusal takes nothing')

  budget.reserve('second', 100)
  budget.reserve('second', 100)
  t.throws(() => budget.reserve('second', 100), refusal, 'it may not hold more than is free')
  budget.reserve('third', 100)
  t.throws(() => budget.reserve('greedy', 1), refusal)
  budget.reserve('', 100)
  t.throws(() => budget.reserve('', 50), { ...refusal, message: /^Requests without a key already use their share/ })
  budget.release('', 100)
  budget.release('greedy', 500)
  budget.reserve('second', 200)
  t.equal(budget.used, 500)
})

t.test('an owner that holds nothing may take everything that is free, and no more', async (t) => {
  const budget = new MemoryBudget(1000, 'Later.')
  budget.reserve('first', 900)
  budget.reserve('second', 100)
  t.throws(() => budget.reserve('third', 1), { ...refusal, message: 'Later.' })
  budget.release('first', 900)
  budget.release('second', 100)
  budget.reserve('third', 5000)
  t.equal(budget.used, 5000, 'while nothing else is held, an amount may exceed the budget')
  budget.release('third', 5000)
  t.equal(budget.used, 0)
})

t.test('a reservation takes or gives back the difference, and a refusal leaves it unchanged', async (t) => {
  const budget = new MemoryBudget(1000, 'Later.')
  const hold = budget.openReservation('key')
  budget.reserve('other', 300)
  hold(400)
  hold(300)
  t.equal(budget.used, 600)
  t.throws(() => hold(800), refusal)
  t.equal(budget.used, 600)
  hold(0)
  t.equal(budget.used, 300)
})

t.test(
  'the only reservation of an owner may grow to everything that is free; two are limited to the share',
  async (t) => {
    const budget = new MemoryBudget(1000, 'Later.')
    const body = budget.openReservation('key')
    body(300)
    body(900)
    t.throws(() => budget.openReservation('key')(50), refusal)
    budget.reserve('other', 50)
    t.throws(() => body(1000), refusal)
    body(400)
    const second = budget.openReservation('key')
    second(50)
    t.throws(() => second(200), refusal)
    t.throws(() => body(500), refusal)
    body(0)
    second(900)
    t.equal(budget.used, 950)
  },
)
