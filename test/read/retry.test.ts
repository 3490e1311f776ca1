import { DatabaseError } from 'pg'
import t from 'tap'
import { NotConnectedError } from '../../src/data/sqlstate.ts'
import { Problem } from '../../src/lib/problems.ts'
import { retryDuringOutage } from '../../src/read/retry.ts'
import { stopClock } from '../helpers/clock.ts'
import { until } from '../helpers/until.ts'

const sqlError = (code: string) => Object.assign(new DatabaseError('', 0, 'error'), { code })

const { signal } = new AbortController()

/** Fails with each of these, one try after the other, and then succeeds. */
function failing(...errors: Error[]) {
  let tries = 0
  const read = async () => {
    const error = errors[tries++]
    if (error !== undefined) throw error
    return tries
  }
  return { read, tries: () => tries }
}

t.test('a read is tried again while the database is away, or a standby has to replay what it read', async (t) => {
  const { read } = failing(new NotConnectedError('away'), sqlError('57P01'), sqlError('40001'))
  t.equal(await retryDuringOutage(read, 60_000, signal), 4)
})

t.test('what fails for good fails at once', async (t) => {
  for (const error of [sqlError('42P01'), sqlError('57014'), sqlError('22P02'), new Problem('not_found', 'No.')]) {
    const { read, tries } = failing(error)
    await t.rejects(retryDuringOutage(read, 60_000, signal), error)
    t.equal(tries(), 1)
  }
})

t.test('when the hold window is over, the outage is told', async (t) => {
  const { read, tries } = failing(...Array.from({ length: 50 }, () => new NotConnectedError('away')))
  await t.rejects(retryDuringOutage(read, 0, signal), { name: 'NotConnectedError' })
  t.equal(tries(), 1)

  const clock = stopClock(t)
  const slow = () => {
    clock.jump(60)
    return read()
  }
  await t.rejects(retryDuringOutage(slow, 200, signal), { name: 'NotConnectedError' })
  // The window closes at 260 ms: the next try would begin after pauses of 50 and 100 ms, and then at 180 + 200 ms.
  t.equal(tries(), 1 + 3)
})

t.test('the hold window begins with the first failure, however long the read had to wait before', async (t) => {
  const clock = stopClock(t)
  const { read, tries } = failing(new NotConnectedError('away'))
  const late = () => {
    if (tries() === 0) clock.jump(300)
    return read()
  }
  t.equal(await retryDuringOutage(late, 200, signal), 2)
})

t.test('whoever has left is not waited for', async (t) => {
  const leaving = new AbortController()
  const { read, tries } = failing(...Array.from({ length: 50 }, () => new NotConnectedError('away')))
  const reading = retryDuringOutage(read, 60_000, leaving.signal)
  await until('two tries', () => tries() === 2)
  leaving.abort()
  await t.rejects(reading, { name: 'AbortError' })
  t.equal(tries(), 2)
})
