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

// Its 'close' has been, so nothing would give the memory back: each such reader took some of the budget for ever.
t.test('nothing is reserved for a reader who left before the reading began', async (t) => {
  const app = await setUp(t)
  const [asked, answered] = [Promise.withResolvers<void>(), Promise.withResolvers<unknown>()]
  app.get('/', async (_request, reply) => {
    asked.resolve()
    await once(reply.raw, 'close')
    const { hold } = reply.beginReading()
    answered.resolve(t.throws(() => hold(1000), { name: 'AbortError' }))
    return 'too late'
  })
  const socket = connect(await listen(app as never), '127.0.0.1')
  socket.write(head('GET', '/'))
  await asked.promise
  socket.destroy()
  await answered.promise
  t.equal(app.responseMemory.used, 0)
})

// An answer that waits behind another one on its connection has no socket yet, and Node.js closes it without an event.
t.test('a reader who leaves while its answer waits behind another one gives its memory back', async (t) => {
  const app = await setUp(t)
  app.get('/', async (_request, reply) => {
    const { hold, signal } = reply.beginReading()
    hold(1000)
    await new Promise((resolve) => signal.addEventListener('abort', resolve))
    return 'too late'
  })
  const socket = connect(await listen(app as never), '127.0.0.1')
  socket.write(head('GET', '/') + head('GET', '/'))
  await until('both to be read', () => app.responseMemory.used > 20_000)
  socket.destroy()
  await until('both to be given up', () => app.responseMemory.used === 0)
})
