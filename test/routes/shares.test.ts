import { once } from 'node:events'
import { connect as open } from 'node:net'
import t, { type Test } from 'tap'
import { createApp } from '../helpers/app.ts'
import { head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

// One key takes as much as it can, and another one's requests must not notice. A request takes milliseconds; the bound is
// for a machine that does much else.
const QUICK_MS = 5_000

const { app, key, makeKey, post } = await createApp(t)
const port = await listen(app)
const greedy = (await makeKey()).token
const MiB = 1024 * 1024

/** @returns the statuses that came on all of these connections */
async function flood(t: Test, connections: number, bytes: string): Promise<() => number[]> {
  const answers: number[] = []
  for (let n = 0; n < connections; n++) {
    const socket = open(port, '127.0.0.1')
    t.teardown(() => socket.destroy())
    socket.on('data', (bytes) => {
      for (const [, status] of String(bytes).matchAll(/HTTP\/1\.1 (\d+) /g)) answers.push(Number(status))
    })
    await once(socket, 'connect')
    socket.write(bytes)
  }
  return () => answers
}

async function isServed(t: Test, id: string) {
  const began = performance.now()
  const { status } = await post({ source: 'other', type: 't', id }, { authorization: `Bearer ${key}` })
  t.equal(status, 201)
  const took = performance.now() - began
  t.ok(took < QUICK_MS, `another key is answered after ${took} ms`)
}

const headOf = (headers: Record<string, string>) =>
  head('POST', '/v1/records', { Authorization: `Bearer ${greedy}`, ...headers })

t.test(
  'a key that announces large bodies, and sends next to nothing of them, takes no more than its share',
  async (t) => {
    const headers = { 'Content-Type': 'application/json', 'Content-Length': String(16 * MiB) }
    const statuses = await flood(t, 8, `${headOf(headers)}[`)
    await until('the rest to be refused', () => statuses().length >= 6)
    t.same(new Set(statuses()), new Set([503]))
    await isServed(t, 'bodies')
  },
)

t.test('a key that opens streams of lines, and sends nothing on them, takes no more than its share', async (t) => {
  const headers = { 'Content-Type': 'application/x-ndjson', 'Transfer-Encoding': 'chunked' }
  const statuses = await flood(t, 1030, headOf(headers))
  await until('the rest to be refused', () => app.budget.used > 0.45 * app.budget.max && statuses().length > 300)
  t.same(new Set(statuses()), new Set([503]))
  await isServed(t, 'streams')
})
