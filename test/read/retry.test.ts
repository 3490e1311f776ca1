import { DatabaseError } from 'pg'
import t from 'tap'
import { NotConnectedError } from '../../src/postgres/sqlstate.ts'
import { Problem } from '../../src/problems.ts'
import { retryDuringOutage } from '../../src/read/retry.ts'
import { stopClock } from '../helpers/clock.ts'
import { until } from '../helpers/until.ts'

const sqlError = (code: string) => Object.assign(new DatabaseError('', 0, 'error'), { code })

const { signal } = new AbortController()

/** A read that fails with these errors, one per try, and then succeeds. */
function failing(...errors: Error[]) {
  let tries = 0
  const read = async () => {
    const error = errors[tries++]
    if (error !== undefined) throw error
    return tries
  }
  return { read, tries: () => tries }
}

t.test('a read is retried during an outage, and if it conflicts with the replay on a standby', async (t) => {
  const { read } = failing(new NotConnectedError('away'), sqlError('57P01'), sqlError('40001'))
  t.equal(await retryDuringOutage(read, 60_000, signal), 4)
})

t.test('a read that fails for another reason is not retried', async (t) => {
  for (const error of [sqlError('42P01'), sqlError('57014'), sqlError('22P02'), new Problem('not_found', 'No.')]) {
    const { read, tries } = failing(error)
    await t.rejects(retryDuringOutage(read, 60_000, signal), error)
    t.equal(tries(), 1)
  }
})

t.test('when the hold window is over, the read fails with the error of the outage', async (t) => {
  const { read, tries } = failing(...Array.from({ length: 50 }, () => new NotConnectedError('away')))
  await t.rejects(retryDuringOutage(read, 0, signal), { name: 'NotConnectedError' })
  t.equal(tries(), 1)

  const clock = stopClock(t)
  const slow = () => {
    clock.jump(60)
    return read()
  }
  await t.rejects(retryDuringOutage(slow, 200, signal), { name: 'NotConnectedError' })
  // The window ends at 260 ms. After pauses of 50 and 100 ms, the fourth try would begin at 180 + 200 ms.
  t.equal(tries(), 1 + 3)
})

t.test('the hold window begins with the first failure, however long the read waited before', async (t) => {
  const clock = stopClock(t)
  const { read, tries } = failing(new NotConnectedError('away'))
  const late = () => {
    if (tries() === 0) clock.jump(300)
    return read()
  }
  t.equal(await retryDuringOutage(late, 200, signal), 2)
})

t.test('a read is not retried after its client has disconnected', async (t) => {
  const leaving = new AbortController()
  const { read, tries } = failing(...Array.from({ length: 50 }, () => new NotConnectedError('away')))
  const reading = retryDuringOutage(read, 60_000, leaving.signal)
  await until('two tries', () => tries() === 2)
  leaving.abort()
  await t.rejects(reading, { name: 'AbortError' })
  t.equal(tries(), 2)
})
