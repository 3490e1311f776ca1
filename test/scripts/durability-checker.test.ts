import t from 'tap'
import { type Answer, check, type Stored } from '../../scripts/durability/checker.ts'
import { contentOf } from '../../scripts/durability/records.ts'
import { complaintsOf, type Result } from '../../scripts/durability/run.ts'

const row = (number: number): Stored => ({ number, content: contentOf(number) })
const created = (...numbers: number[]): Answer => ({ numbers, status: 201, results: numbers.map(() => 'created') })
const duplicate = (number: number): Answer => ({ numbers: [number], status: 200, results: ['duplicate'] })
const refused = (number: number, outcome: string): Answer => ({ numbers: [number], status: 503, outcome })
const unanswered = (number: number): Answer => ({ numbers: [number] })

t.test('a run in which all was kept has no complaint', async (t) => {
  const answers = [created(1, 2), unanswered(3), duplicate(3), refused(4, 'not_written'), created(4), unanswered(5)]
  const verdict = check(answers, [1, 2, 3, 4].map(row))
  t.match(verdict, { sent: 5, acknowledged: 4, stored: 4, missing: 0, twice: 0, wrong: 0, errors: 3 })
})

t.test('an empty run has no complaint either, and shows that nothing was sent', async (t) => {
  t.match(check([], []), { sent: 0, acknowledged: 0, stored: 0, missing: 0, twice: 0, wrong: 0, errors: 0 })
})

t.test('a record that was acknowledged and is not there is missing', async (t) => {
  const verdict = check([created(1, 2), unanswered(3), duplicate(3)], [row(1)])
  t.match(verdict, { acknowledged: 3, stored: 1, missing: 2, twice: 0, wrong: 0 })
  t.match(verdict.examples, ['record 2: acknowledged, not stored', 'record 3: acknowledged, not stored'])
})

t.test('a record that is stored otherwise than it was sent is missing', async (t) => {
  t.match(check([created(1)], [{ number: 1, content: 'something else' }]), { missing: 1, twice: 0, wrong: 0 })
})

t.test('a record that is stored under two identities is stored twice', async (t) => {
  t.match(check([created(1)], [row(1), row(1)]), { stored: 1, missing: 0, twice: 1, wrong: 0 })
})

t.test('an answer that the table proves untrue is wrong:', async (t) => {
  const cases: [string, Answer[], Stored[]][] = [
    ['not written, and it is stored', [refused(1, 'not_written')], [row(1)]],
    ['not written each time, and it is stored', [refused(1, 'not_written'), refused(1, 'not_written')], [row(1)]],
    ['rejected, and it is stored', [{ numbers: [1], status: 207, results: ['rejected'] }], [row(1)]],
    ['created twice', [created(1), created(1)], [row(1)]],
    ['a duplicate, the first time it was sent', [duplicate(1)], [row(1)]],
    ['a duplicate, after nothing was written', [refused(1, 'not_written'), duplicate(1)], [row(1)]],
    ['a conflict', [{ numbers: [1], status: 409, results: ['conflict'] }], [row(1)]],
    ['stored, though nobody sent it', [], [row(1)]],
  ]
  for (const [name, answers, rows] of cases) t.match(check(answers, rows), { missing: 0, twice: 0, wrong: 1 }, name)
})

t.test('an answer that leaves it open cannot be wrong', async (t) => {
  for (const rows of [[], [row(1)]]) {
    t.match(check([refused(1, 'unknown')], rows), { missing: 0, wrong: 0, errors: 1 })
    t.match(check([unanswered(1)], rows), { missing: 0, wrong: 0, errors: 1 })
  }
  t.match(check([refused(1, 'unknown'), duplicate(1)], [row(1)]), { missing: 0, wrong: 0 })
})

t.test('the bar: nothing missing, twice or wrong, whatever broke; no errors, and answers in time', async (t) => {
  const kept: Result = {
    ...check([created(1, 2)], [row(1), row(2)]),
    name: 'fault',
    title: 'a fault',
    slowest_ms: 100,
    allowed_ms: 1_000,
    longest_ms: 100,
    errorsExpected: false,
  }
  t.same(complaintsOf(kept), [])
  const cases: Partial<Result>[] = [
    check([created(1)], []),
    check([created(1)], [row(1), row(1)]),
    check([refused(1, 'not_written')], [row(1)]),
    { slowest_ms: 1_001 },
    { sent: 0 },
  ]
  for (const change of cases) {
    t.equal(complaintsOf({ ...kept, ...change, errorsExpected: true }).length, 1, JSON.stringify(change))
  }
  t.equal(complaintsOf({ ...kept, errors: 1 }).length, 1, 'inside the window nobody sees an error')
  t.same(complaintsOf({ ...kept, errors: 1, errorsExpected: true }), [])
})
