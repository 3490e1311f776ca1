import { setImmediate as nextIteration } from 'node:timers/promises'
import t from 'tap'
import { FairSemaphore } from '../../src/lib/fair-semaphore.ts'
import { hold } from '../helpers/load.ts'

const { signal } = new AbortController()

/** Begins and ends pieces of work. `keys` returns the keys of the running ones, in the order in which they began. */
function work(semaphore: FairSemaphore) {
  const running: { key: string; release: () => void; done: Promise<void> }[] = []
  const begin = (key: string, wait: { signal: AbortSignal; maxMs?: number } = { signal }) => {
    const { arrive, release } = hold()
    const done: Promise<void> = semaphore.run(key, wait, () => {
      running.push({ key, release, done })
      return arrive()
    })
    return done
  }
  const end = async (key: string) => {
    const at = running.findIndex((one) => one.key === key)
    const [one] = running.splice(at, 1)
    one?.release()
    await one?.done
    await nextIteration()
  }
  return { begin, end, keys: () => running.map(({ key }) => key).join('') }
}

t.test('one key gets about half of the permits, and a later key finds a free one', async (t) => {
  const semaphore = new FairSemaphore(5, 'Later.')
  const { begin, end, keys } = work(semaphore)
  for (let n = 0; n < 9; n++) void begin('a')
  await nextIteration()
  t.equal(keys(), 'aaa')
  for (const key of ['b', 'b', 'c', 'd']) void begin(key)
  await nextIteration()
  t.equal(keys(), 'aaabc')
  t.equal(semaphore.waiting, 8)
  await end('b')
  t.equal(keys(), 'aaacd', 'the key without a permit is next')
  await end('a')
  t.equal(keys(), 'aacdb')
  await end('d')
  t.equal(keys(), 'aacb', 'the last permit stays free for a key without one')
  await end('c')
  t.equal(keys(), 'aab', 'two permits are free, but a already has two')
  await end('b')
  t.equal(keys(), 'aaa')
  while (keys() !== '') await end('a')
  t.equal(semaphore.waiting, 0)
})

t.test('keys with equally many permits take turns, in the order in which they arrived', async (t) => {
  const { begin, end, keys } = work(new FairSemaphore(1, 'Later.'))
  for (const key of ['a', 'a', 'a', 'b', 'b', 'c']) void begin(key)
  let order = ''
  for (await nextIteration(); keys() !== ''; ) {
    order += keys()
    await end(keys())
  }
  t.equal(order, 'abcaba')
})

t.test('work that has waited too long is refused, and aborted work gets no permit', async (t) => {
  const semaphore = new FairSemaphore(1, 'Later.')
  const { begin, end, keys } = work(semaphore)
  const controller = new AbortController()
  const first = begin('a')
  const late = begin('b', { signal, maxMs: 10 })
  const aborted = begin('c', { signal: controller.signal })
  const patient = begin('d')
  await t.rejects(late, { code: 'overloaded', message: 'Later.' })
  controller.abort()
  // In the same iteration of the event loop: the permit must not go to aborted work.
  const ended = end('a')
  await t.rejects(aborted, { name: 'AbortError' })
  await t.rejects(begin('e', { signal: controller.signal }), { name: 'AbortError' })
  await ended
  await first
  t.equal(keys(), 'd')
  t.equal(semaphore.waiting, 0)
  await end('d')
  await patient
})

t.test('work that fails gives its permit back', async (t) => {
  const semaphore = new FairSemaphore(1, 'Later.')
  for (let n = 0; n < 3; n++) {
    await t.rejects(
      semaphore.run('a', { signal }, () => Promise.reject(new Error('no'))),
      { message: 'no' },
    )
  }
  t.equal(await semaphore.run('a', { signal }, async () => 'yes'), 'yes')
})
