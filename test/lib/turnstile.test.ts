import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { Turnstile } from '../../src/lib/turnstile.ts'
import { hold } from '../helpers/load.ts'

const { signal } = new AbortController()

/** Work that goes on until it is released, by the names of its keys in the order in which it began. */
function work(turnstile: Turnstile) {
  const running: { key: string; release: () => void; done: Promise<void> }[] = []
  const begin = (key: string, wait: { signal: AbortSignal; maxMs?: number } = { signal }) => {
    const { arrive, release } = hold()
    const done: Promise<void> = turnstile.pass(key, wait, () => {
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
    await nextTurn()
  }
  return { begin, end, keys: () => running.map(({ key }) => key).join('') }
}

t.test('one key takes about half of the places, and a key that comes later finds one free', async (t) => {
  const turnstile = new Turnstile(5, 'Later.')
  const { begin, end, keys } = work(turnstile)
  for (let n = 0; n < 9; n++) void begin('a')
  await nextTurn()
  t.equal(keys(), 'aaa')
  for (const key of ['b', 'b', 'c', 'd']) void begin(key)
  await nextTurn()
  t.equal(keys(), 'aaabc')
  t.equal(turnstile.waiting, 8)
  await end('b')
  t.equal(keys(), 'aaacd', 'who has no place is next')
  await end('a')
  t.equal(keys(), 'aacdb')
  await end('d')
  t.equal(keys(), 'aacb', 'the last place stays free for a key that has none')
  await end('c')
  t.equal(keys(), 'aab', 'two are free, and a has two')
  await end('b')
  t.equal(keys(), 'aaa')
  while (keys() !== '') await end('a')
  t.equal(turnstile.waiting, 0)
})

t.test('keys with equally many places take turns, in the order in which they came', async (t) => {
  const { begin, end, keys } = work(new Turnstile(1, 'Later.'))
  for (const key of ['a', 'a', 'a', 'b', 'b', 'c']) void begin(key)
  let order = ''
  for (await nextTurn(); keys() !== ''; ) {
    order += keys()
    await end(keys())
  }
  t.equal(order, 'abcaba')
})

t.test('whoever has waited too long is refused, and whoever has left gets no place', async (t) => {
  const turnstile = new Turnstile(1, 'Later.')
  const { begin, end, keys } = work(turnstile)
  const leaving = new AbortController()
  const first = begin('a')
  const late = begin('b', { signal, maxMs: 10 })
  const left = begin('c', { signal: leaving.signal })
  const patient = begin('d')
  await t.rejects(late, { code: 'overloaded', message: 'Later.' })
  leaving.abort()
  // In the same turn: the place must not go to one that has left.
  const ended = end('a')
  await t.rejects(left, { name: 'AbortError' })
  await t.rejects(begin('e', { signal: leaving.signal }), { name: 'AbortError' })
  await ended
  await first
  t.equal(keys(), 'd')
  t.equal(turnstile.waiting, 0)
  await end('d')
  await patient
})

t.test('what fails gives its place back', async (t) => {
  const turnstile = new Turnstile(1, 'Later.')
  for (let n = 0; n < 3; n++) {
    await t.rejects(
      turnstile.pass('a', { signal }, () => Promise.reject(new Error('no'))),
      { message: 'no' },
    )
  }
  t.equal(await turnstile.pass('a', { signal }, async () => 'yes'), 'yes')
})
