import { Agent, type IncomingMessage, get as open } from 'node:http'
import t from 'tap'
import { createApp } from '../helpers/app.ts'
import { listen } from '../helpers/socket.ts'
import { watchEventLoop } from '../helpers/turns.ts'
import { until } from '../helpers/until.ts'

const READERS = 300
const TYPES = 100
const RECORDS = 1000

// Each record was compared with each type of each reader, in one turn of the event loop: a key that may only read stopped ingestion.
t.test('many readers with many types of their own do not slow ingestion down', async (t) => {
  const { app, makeKey, post } = await createApp(t, { FEED_MAX_READERS: String(2 * READERS) })
  const port = await listen(app)
  const { token } = await makeKey({ scopes: ['read'] })
  const agent = new Agent()
  t.teardown(() => agent.destroy())
  const texts = await Promise.all(
    Array.from({ length: READERS }, async (_, reader) => {
      const types = Array.from({ length: TYPES }, (_, n) => `&type=order.placed.${reader}.${n}`).join('')
      const path = `/v1/feed?live=sse&offset=now${types}`
      const headers = { authorization: `Bearer ${token}` }
      const answer = await new Promise<IncomingMessage>((resolve, reject) => {
        open({ host: '127.0.0.1', port, path, agent, headers }, resolve).on('error', reject)
      })
      const read = { text: '' }
      answer.setEncoding('utf8').on('data', (chunk) => {
        read.text += chunk
      })
      return read
    }),
  )
  await until('the first events', () => texts.every(({ text }) => text.includes('control')))

  const turns = watchEventLoop()
  t.teardown(() => turns.stop())
  const started = performance.now()
  for (const batch of ['first', 'second', 'third']) {
    const records = Array.from({ length: RECORDS }, (_, n) => ({
      source: 's',
      type: 'order.placed',
      id: `${batch} ${n}`,
    }))
    t.equal((await post(records)).status, 201)
  }
  // One reader has this type.
  await post({ source: 's', type: `order.placed.${READERS - 1}.${TYPES - 1}`, id: 'own' })
  await until('the record', () => texts.at(-1)?.text.includes('"own"'))
  const ms = performance.now() - started
  const longest = turns.takeLongest()
  t.ok(ms < 2_000 * 3, `${Math.round(ms)} ms for three requests`)
  t.ok(longest < 100, `the longest turn of the event loop took ${Math.round(longest)} ms`)
  t.equal(texts.filter(({ text }) => text.includes('event: data')).length, 1)
})
