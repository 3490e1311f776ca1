import { getEventListeners } from 'node:events'
import t from 'tap'
import { request } from '../../src/client/request.ts'
import { TryAgain } from '../../src/client/server.ts'
import { stopClock } from '../helpers/clock.ts'
import { startStub } from '../helpers/proxy.ts'

/** It can be repeated: `retry` ends before it repeats it. */
const STOPPED = { message: /^The connection to .* broke$/, cause: { name: 'AbortError' } }

t.test('a request without a response ends after a while, and can be repeated', async (t) => {
  const arrived = Promise.withResolvers<void>()
  const url = await startStub(t, () => arrived.resolve())
  const clock = stopClock(t)
  const done = request({ url, token: 'k' }, '/v1/feed', {})
  done.catch(() => {})
  await arrived.promise
  await clock.tick(89_000)
  await clock.tick(1_000)
  const error = await done.catch((error) => error)
  t.type(error, TryAgain)
  t.match(error.cause, { message: 'No response for 90 seconds' })
})

t.test('a response that has begun may take longer', async (t) => {
  const end = Promise.withResolvers<void>()
  const url = await startStub(t, async (_request, response) => {
    response.writeHead(200).write('begin')
    await end.promise
    response.end(', end')
  })
  const begun = Promise.withResolvers<void>()
  const { fetch } = globalThis
  t.teardown(() => {
    globalThis.fetch = fetch
  })
  globalThis.fetch = async (...args) => {
    const response = await fetch(...args)
    begun.resolve()
    return response
  }
  const clock = stopClock(t)
  const done = request({ url, token: 'k' }, '/', {})
  done.catch(() => {})
  await begun.promise
  await clock.tick(90_000)
  end.resolve()
  t.match(await done, { status: 200, text: 'begin, end' })
})

t.test('a stop ends a request, and no listener is left after one', async (t) => {
  const arrived = Promise.withResolvers<void>()
  const url = await startStub(t, (request, response) => {
    if (request.url === '/quick') return response.end('yes')
    return arrived.resolve()
  })
  const stop = new AbortController()
  t.match(await request({ url, token: 'k' }, '/quick', {}, stop.signal), { text: 'yes' })
  t.equal(getEventListeners(stop.signal, 'abort').length, 0)
  const done = request({ url, token: 'k' }, '/slow', {}, stop.signal)
  done.catch(() => {})
  await arrived.promise
  stop.abort()
  await t.rejects(done, STOPPED)
  await t.rejects(request({ url, token: 'k' }, '/quick', {}, stop.signal), STOPPED, 'also before it begins')
})
