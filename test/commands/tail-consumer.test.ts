import { once } from 'node:events'
import type { Readable } from 'node:stream'
import t, { type Test } from 'tap'
import { type ConsumerStub, startConsumers } from '../helpers/consumers.ts'
import { hold, order, start } from '../helpers/load.ts'
import { sendProblem, startStub } from '../helpers/proxy.ts'
import { afterOf, cursorOf, endlessPages, endOf, idsOf, LONG_PAGE, sendPage, stall, tail } from '../helpers/tail.ts'
import { until } from '../helpers/until.ts'

const START = '-1'

// — where it begins —

t.test('a consumer is created at the start, and continues where it stopped', async (t) => {
  const server = await start(t)
  for (const n of [1, 2]) await server.post(order(n))
  const first = tail(t, server, ['--consumer', 'billing', '--limit', '2'])
  t.match(await endOf(first), { code: 0, stderr: '' })
  t.same(idsOf(first), ['1', '2'])
  t.equal((await server.get('/v1/consumers/billing')).json.offset, first.logs()[1]?.cursor)

  await server.post(order(3))
  const second = tail(t, server, ['--consumer', 'billing', '--limit', '1'])
  t.match(await endOf(second), { code: 0, stderr: '' })
  t.same(idsOf(second), ['3'])
})

t.test('a consumer can be created elsewhere, and --from is refused if it exists', async (t) => {
  const server = await start(t)
  await server.post(order(1))
  const now = tail(t, server, ['--consumer', 'now', '--from', 'now', '--limit', '1'])
  await until('the consumer', async () => (await server.get('/v1/consumers/now')).status === 200)
  await server.post(order(2))
  t.match(await endOf(now), { code: 0, stderr: '' })
  t.same(idsOf(now), ['2'])

  t.match(await endOf(tail(t, server, ['--consumer', 'now', '--from', 'start'])), {
    code: 1,
    stdout: '',
    stderr:
      /^sluice: The consumer "now" exists, so --from is not possible\. Omit it .*DELETE \/v1\/consumers\/now\.\n$/,
  })
})

t.test('if retention deleted records that the consumer had not read, it says so', async (t) => {
  const stub = await startPages(t)
  stub.move('billing', START)
  Object.assign(stub.consumers.get('billing') ?? {}, { overtakenAt: '2026-01-31T12:00:00Z' })
  t.match(await endOf(tail(t, { url: stub.url, key: 'k' }, ['--consumer', 'billing', '--limit', '1'])), {
    code: 0,
    stderr: 'Retention deleted records that the consumer "billing" had not read, at 2026-01-31T12:00:00Z\n',
  })
})

t.test('a server without consumers is told apart from one without this consumer', async (t) => {
  let requests = 0
  const url = await startStub(t, (_request, response) => {
    requests++
    sendProblem(response, 404, { code: 'route_not_found', detail: 'There is no path.', retryable: false })
  })
  t.match(await endOf(tail(t, { url, key: 'k' }, ['--consumer', 'billing'])), {
    code: 1,
    stderr: 'sluice: There is no path.\n',
  })
  t.equal(requests, 1)
})

// — commits —

t.test('the offset is stored after each batch that was written, also of pages without records', async (t) => {
  const pages: [number[], number][] = [
    [[1, 2], 2],
    [[], 2],
    [[], 50],
    [[51], 51],
  ]
  const stub = await startConsumers(t, (_request, response) => {
    const [numbers, next] = pages.shift() ?? [[], 51]
    sendPage(response, numbers, next, false)
  })
  const command = tail(t, { url: stub.url, key: 'k' }, ['--consumer', 'billing', '--limit', '3'])
  t.match(await endOf(command), { code: 0, stderr: '' })
  t.same(stub.commits, [START, ...[2, 50, 51].map(cursorOf)])
})

t.test('nothing is stored before the pipe has taken it, and after a crash it is printed again', async (t) => {
  const stub = await startPages(t)
  const target = { url: stub.url, key: 'k' }
  // The first PUT creates the consumer.
  stub.faults.push('none', 'silence')
  const crashed = tail(t, target, ['--consumer', 'billing'])
  await until('the second PUT', () => stub.faults.length === 0)
  crashed.child.kill('SIGKILL')
  await crashed.exit
  t.same(idsOf(crashed), ['1', '2'], 'it was printed')
  t.same(stub.commits, [START], 'and not stored')
  const again = tail(t, target, ['--consumer', 'billing', '--limit', '4'])
  t.match(await endOf(again), { code: 0, stderr: '' })
  t.same(idsOf(again), ['1', '2', '3', '4'])
})

t.test('if the reader of the pipe ends, what it may not have got is not stored', async (t) => {
  const stub = await startConsumers(t, (request, response) => {
    const after = afterOf(request)
    sendPage(response, [after + 1], after + 1, false, JSON.stringify('x'.repeat(1_000_000)))
  })
  const command = tail(t, { url: stub.url, key: 'k' }, ['--consumer', 'billing'])
  await once(command.child.stdout as Readable, 'data')
  command.child.stdout?.destroy()
  t.match(await endOf(command), { code: 0, stderr: '' })
  t.same(stub.commits, [START])
})

t.test('after Ctrl-C, the offset of what was written is stored', async (t) => {
  const pages = endlessPages(LONG_PAGE)
  const stub = await startConsumers(t, pages.handle)
  const command = tail(t, { url: stub.url, key: 'k' }, ['--consumer', 'billing'])
  await stall(command, pages.count)
  command.child.kill('SIGINT')
  command.child.stdout?.resume()
  t.match(await endOf(command), { code: 0, stderr: '' })
  t.equal(stub.commits.at(-1), cursorOf(idsOf(command).length))
  t.not(idsOf(command).length % LONG_PAGE, 0, 'a part of a page')
})

t.test('after Ctrl-C, an offset that cannot be stored is an error', async (t) => {
  const stub = await startPages(t)
  stub.faults.push('none', ...Array.from({ length: 99 }, () => 'unavailable' as const))
  const command = tail(t, { url: stub.url, key: 'k' }, ['--consumer', 'billing', '--limit', '2'])
  await until('the outage', () => command.stderr() !== '')
  command.child.kill('SIGTERM')
  t.match(await endOf(command), {
    code: 1,
    stderr:
      'Away; trying again until it succeeds\nsluice: Interrupted, but the offset of the consumer "billing" could not be stored. The next run will print the last records again.\n',
  })
})

// — faults —

t.test('after a response that was lost or cut, it asks whether the offset is stored, and goes on', async (t) => {
  const stub = await startPages(t)
  // The first PUT creates the consumer.
  stub.faults.push('stored, but lost', 'stored, but lost', 'lost', 'unavailable', 'stored, but cut')
  const command = tail(t, { url: stub.url, key: 'k' }, ['--consumer', 'billing', '--limit', '6'])
  const { code, stderr } = await endOf(command)
  t.equal(code, 0, stderr)
  t.same(idsOf(command), ['1', '2', '3', '4', '5', '6'])
  t.same(stub.commits, [START, ...[2, 4, 6].map(cursorOf)])
})

t.test('if another process moves or deletes the consumer, it ends', async (t) => {
  for (const [faults, interfere] of [
    [[], (stub: ConsumerStub) => stub.move('billing', cursorOf(1))],
    // Another process that prints the same records stores the same offset.
    [[], (stub: ConsumerStub) => stub.move('billing', cursorOf(2))],
    [['lost'], (stub: ConsumerStub) => stub.move('billing', cursorOf(1))],
    [['lost'], (stub: ConsumerStub) => stub.consumers.delete('billing')],
    [[], (stub: ConsumerStub) => stub.consumers.delete('billing')],
  ] as const) {
    const held = hold()
    const stub = await startConsumers(t, async (request, response) => {
      await held.arrive()
      sendPage(response, [1, 2], 2, false)
      return request
    })
    stub.move('billing', START)
    const command = tail(t, { url: stub.url, key: 'k' }, ['--consumer', 'billing'])
    await held.arrived
    stub.faults.push(...faults)
    interfere(stub)
    held.release()
    t.match(await endOf(command), {
      code: 1,
      stderr: /sluice: Another process has moved or deleted the consumer "billing"\. Let only one .*\.\n$/,
    })
    t.same(idsOf(command), ['1', '2'])
    t.same(stub.commits, [])
  }
})

// — helpers —

/** A stub with pages of two records. */
const startPages = (t: Test) =>
  startConsumers(t, (request, response) => {
    const after = afterOf(request)
    sendPage(response, [after + 1, after + 2], after + 2, false)
  })
