import { once } from 'node:events'
import { connect } from 'node:net'
import Fastify from 'fastify'
import t from 'tap'
import { loadConfig } from '../../src/config.ts'
import unread from '../../src/plugins/unread.ts'
import { head, listen } from '../helpers/socket.ts'

// Its 'close' has been, so nothing would give the memory back: each such reader took some of the budget for ever.
t.test('nothing is reserved for a reader who left before the answer was there', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onRequest', async (request) => {
    request.key = { id: 'a key' } as never
  })
  await app.register(unread, { config: loadConfig({ DATABASE_URL: 'postgres://x/y' }) })
  const [asked, answered] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  app.get('/', async (_request, reply) => {
    asked.resolve()
    await once(reply.raw, 'close')
    reply.reserve(1000)
    answered.resolve()
    return 'too late'
  })
  const socket = connect(await listen(app as never), '127.0.0.1')
  socket.write(head('GET', '/'))
  await asked.promise
  socket.destroy()
  await answered.promise
  t.equal(app.unread.used, 0)
})
