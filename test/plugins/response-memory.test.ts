import { once } from 'node:events'
import { connect } from 'node:net'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { loadConfig } from '../../src/config.ts'
import responseMemory from '../../src/plugins/response-memory.ts'
import { head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

async function setUp(t: Test) {
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onRequest', async (request) => {
    request.key = { id: 'a key' } as never
  })
  app.decorate('config', loadConfig({ DATABASE_URL: 'postgres://x/y' }))
  await app.register(responseMemory)
  return app
}

// `close` has already fired, so nothing would release the memory: each such reader took a part of the budget forever.
t.test('nothing is reserved for a reader that disconnected before the read began', async (t) => {
  const app = await setUp(t)
  const [started, checked] = [Promise.withResolvers<void>(), Promise.withResolvers<unknown>()]
  app.get('/', async (_request, reply) => {
    started.resolve()
    await once(reply.raw, 'close')
    const { reserve } = reply.beginReading()
    checked.resolve(t.throws(() => reserve(1000), { name: 'AbortError' }))
    return 'too late'
  })
  const socket = connect(await listen(app as never), '127.0.0.1')
  socket.write(head('GET', '/'))
  await started.promise
  socket.destroy()
  await checked.promise
  t.equal(app.responseMemory.used, 0)
})

// A response that waits behind another one on its connection has no socket yet, and Node.js closes it without an event.
t.test('the memory of a response that waits behind another one is released on disconnect', async (t) => {
  const app = await setUp(t)
  app.get('/', async (_request, reply) => {
    const { reserve, signal } = reply.beginReading()
    reserve(1000)
    await new Promise((resolve) => signal.addEventListener('abort', resolve))
    return 'too late'
  })
  const socket = connect(await listen(app as never), '127.0.0.1')
  socket.write(head('GET', '/') + head('GET', '/'))
  await until('both responses to reserve memory', () => app.responseMemory.used > 20_000)
  socket.destroy()
  await until('the memory of both to be released', () => app.responseMemory.used === 0)
})

// A connection that closes also closes its response, and still calls a listener that is removed meanwhile. Then a reader of /docs was
// counted down twice, and more than 64 were admitted.
for (const state of ['being made', 'already destroyed', 'already closed'] as const) {
  t.test(`a response that is ${state} is released once on disconnect`, async (t) => {
    const app = await setUp(t)
    const [started, closed] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    let releases = 0
    app.get('/', async (request, reply) => {
      // After all listeners of the connection.
      request.raw.socket.once('close', () => setImmediate(closed.resolve))
      if (state !== 'being made') reply.raw.destroy()
      if (state === 'already closed') await closed.promise
      reply.onceTaken(() => releases++)
      started.resolve()
      await closed.promise
      return 'too late'
    })
    const socket = connect(await listen(app as never), '127.0.0.1')
    socket.on('error', () => {})
    socket.write(head('GET', '/'))
    await started.promise
    socket.destroy()
    await closed.promise
    t.equal(releases, 1)
  })
}
