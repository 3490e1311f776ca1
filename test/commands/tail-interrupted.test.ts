import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { openPostgres } from '../../scripts/durability/postgres.ts'
import { freePort, startServer, stopServers } from '../../scripts/durability/server.ts'
import { interruptTwice } from '../helpers/command.ts'
import { inParallel, order, start } from '../helpers/load.ts'
import { FAST, ownFolder } from '../helpers/own-server.ts'
import { sendCut, sendProblem, startStub } from '../helpers/proxy.ts'
import {
  afterOf,
  endlessPages,
  endOf,
  idsOf,
  LONG_PAGE,
  PAGE_RECORDS,
  printed,
  sendPage,
  stall,
  tail,
} from '../helpers/tail.ts'
import { until } from '../helpers/until.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

// — outages —

t.test('while the server is killed and PostgreSQL restarts, each record is printed once, in order', async (t) => {
  const folder = await ownFolder(t)
  const postgres = await openPostgres(folder, FAST)
  t.teardown(() => postgres.close())
  t.teardown(stopServers)
  const port = await freePort()
  // Without a hold window, the outage of PostgreSQL reaches the command.
  const env = { DATABASE_URL: postgres.apiUrl, DRAIN_SECONDS: '0', OUTAGE_HOLD_SECONDS: '0' }
  const startAgain = () => startServer({ port, env, log: join(folder, 'server.log') })
  let server = await startAgain()
  const target = { url: `http://127.0.0.1:${port}`, key: postgres.key }
  const command = tail(t, target, ['--from', 'start', '--source', 'shop'])

  const end = new AbortController()
  let stored = 0
  const storing = (async () => {
    while (!end.signal.aborted) {
      if (await store(target, stored + 1)) stored++
    }
  })()
  const more = async () => printed(command, idsOf(command).length + 100)
  await more()
  server.signal('SIGKILL')
  await server.exit
  await until('the command to notice it', () => command.stderr().includes('trying again until it succeeds'))
  server = await startAgain()
  await more()
  await postgres.restart('immediate')
  await more()
  server.signal('SIGTERM')
  await server.exit
  server = await startAgain()
  await more()
  end.abort()
  await storing
  await printed(command, stored)
  command.child.kill('SIGTERM')
  t.equal(await command.exit, 0)
  // Those of one writer have the order in which it stored them.
  t.same(
    idsOf(command),
    Array.from({ length: stored }, (_, at) => String(at + 1)),
  )
})

t.test('an outage is reported once, however long it takes, and the next one again', async (t) => {
  let requests = 0
  const url = await startStub(t, (request, response) => {
    const after = afterOf(request)
    requests++
    if ([2, 3, 6].includes(requests)) return sendProblem(response, 503, { detail: 'Away.', retryable: true }, NOW)
    if (requests === 4) return response.writeHead(502).end('Bad Gateway')
    if (after < 3) return sendPage(response, [after + 1], after + 1)
  })
  const command = tail(t, { url, key: 'k' }, ['--from', 'start', '--limit', '3'])
  t.same(await endOf(command), {
    code: 0,
    stdout: command.stdout(),
    stderr: 'Away; trying again until it succeeds\nAway; trying again until it succeeds\n',
  })
  t.same(idsOf(command), ['1', '2', '3'])
})

t.test('a response that breaks off is requested again, and none of its records is printed twice', async (t) => {
  let requests = 0
  const url = await startStub(t, (request, response) => {
    requests++
    const after = afterOf(request)
    const numbers = [after + 1, after + 2]
    if (requests % 2 === 0) return sendPage(response, numbers, after + 2)
    response.writeHead(200, { 'stream-next-offset': 'x', 'content-type': 'application/json' })
    // Cut in a way that the client sees, or at the end of the connection, like a proxy that speaks HTTP/1.0.
    const half = '[{"id":"0","cursor":"x"},'
    if (requests === 1) response.write(half, () => response.destroy())
    else sendCut(response, 200, { 'stream-next-offset': 'x', 'content-type': 'application/json' }, half)
    return undefined
  })
  const { code, stdout, stderr } = await endOf(tail(t, { url, key: 'k' }, ['--from', 'start', '--limit', '4']))
  t.equal(code, 0, stderr)
  t.same(
    stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).id),
    ['1', '2', '3', '4'],
  )
  t.equal(stderr.split('\n').length - 1, 2, stderr)
})

t.test('after the first page, a response that does not come from Sluice is an outage', async (t) => {
  const html = { 'content-type': 'text/html' }
  const notSluice = 'which is not a response of Sluice'
  const cases: [fault: (response: ServerResponse) => unknown, message: string][] = [
    // A proxy without a server behind it.
    [
      (response) => response.writeHead(404, { 'content-type': 'text/plain' }).end('page not found'),
      `404, ${notSluice}`,
    ],
    ...[401, 408, 500, 520].map((status): (typeof cases)[number] => [
      (response) => response.writeHead(status, html).end('<html>'),
      `${status}, ${notSluice}`,
    ]),
    [(response) => response.writeHead(200, html).end('<html>'), `200 without Stream-Next-Offset, ${notSluice}`],
    [(response) => response.writeHead(302, { location: 'https://login.example/' }).end(), 'redirects to https://login'],
    [(response) => sendCut(response, 503, PROBLEM, '{"title":"x","det'), 'is not complete'],
    [(response) => sendCut(response, 200, { 'content-type': 'application/json' }, ''), 'without Stream-Next-Offset'],
    // Of a gateway that has problem documents too.
    [(response) => response.writeHead(403, PROBLEM).end('{"title":"Forbidden","status":403}'), `403, ${notSluice}`],
  ]
  await inParallel(cases, async ([fault, message]) => {
    let requests = 0
    const url = await startStub(t, (request, response) => {
      const after = afterOf(request)
      return ++requests === 2 ? fault(response) : sendPage(response, [after + 1], after + 1)
    })
    const command = tail(t, { url, key: 'k' }, ['--from', 'start', '--limit', '2'])
    t.equal(await command.exit, 0, message)
    t.same(idsOf(command), ['1', '2'], message)
    t.match(command.stderr(), message)
    t.match(
      command.stderr(),
      /^http[^\n]*; trying again until it succeeds\n$|^The response [^\n]* until it succeeds\n$/,
    )
    t.notMatch(command.stderr(), '--url', 'the URL is right')
  })
})

t.test('from a time, a response of the search that is cut is requested again', async (t) => {
  let searches = 0
  const url = await startStub(t, (request, response) => {
    if (!request.url?.startsWith('/v1/records')) return sendPage(response, request.url?.includes('now') ? [] : [1], 1)
    const json = { 'content-type': 'application/json' }
    if (++searches === 1) return sendCut(response, 200, json, '{"records":[{"cur')
    return response.writeHead(200, json).end('{"records":[]}')
  })
  const command = tail(t, { url, key: 'k' }, ['--from', '2026-01-31T12:00:00Z', '--limit', '1'])
  t.match(await endOf(command), { code: 0, stderr: /^The response of .* is not complete.*; trying again in 0\.5 s\n$/ })
})

t.test('what Sluice refuses ends it, also after the first page', async (t) => {
  await inParallel([401, 403, 400, 409, 412], async (status) => {
    const url = await startStub(t, (request, response) => {
      if (afterOf(request) === 0) return sendPage(response, [1], 1)
      return sendProblem(response, status, { code: 'no', detail: `No, ${status}.`, retryable: false })
    })
    const command = tail(t, { url, key: 'k' }, ['--from', 'start'])
    t.match(await endOf(command), { code: 1, stderr: `sluice: No, ${status}.\n` })
  })
})

t.test('before the first page, it gives up after as many tries as the other commands', async (t) => {
  const url = await startStub(t, (_request, response) =>
    sendProblem(response, 503, { detail: 'Closed.', retryable: true }, { 'retry-after': '86400' }),
  )
  const other = await startStub(t, (_request, response) => response.writeHead(404).end())
  await inParallel([[], ['--from', 'start'], ['--consumer', 'billing']], async (args) => {
    t.same(await endOf(tail(t, { url, key: 'k' }, args)), { code: 1, stdout: '', stderr: 'sluice: Closed.\n' })
    t.match(await endOf(tail(t, { url: other, key: 'k' }, args)), {
      code: 1,
      stderr: /^sluice: .* answered 404, which is not a response of Sluice\. Specify another server with --url/,
    })
  })
})

// — the end —

t.test('Ctrl-C ends it while it waits for records, and while it waits for the server', async (t) => {
  const server = await start(t)
  const waiting = tail(t, server, [])
  await until('a waiting reader', () => server.app.feed.readers.used === 1)
  interruptTwice(waiting)
  t.same(await endOf(waiting), { code: 0, stdout: '', stderr: '' })

  const url = await startStub(t, (request, response) => {
    if (afterOf(request) === 0) return sendPage(response, [1], 1)
    // Longer than other commands wait.
    return sendProblem(response, 503, { detail: 'Away.', retryable: true }, { 'retry-after': '300' })
  })
  const away = tail(t, { url, key: 'k' }, ['--from', 'start'])
  await until('the outage', () => away.stderr() !== '')
  away.child.kill('SIGINT')
  t.match(await endOf(away), { code: 0, stderr: 'Away; trying again until it succeeds\n' })
})

t.test('if the reader of the pipe ends, it ends quietly at the next record', async (t) => {
  const server = await start(t)
  const command = tail(t, server, [])
  await until('a waiting reader', () => server.app.feed.readers.used === 1)
  command.child.stdout?.destroy()
  await server.post(order(1))
  t.match(await endOf(command), { code: 0, stderr: '' })
})

// /dev/full is a disk without space.
t.test('if stdout cannot be written, it says why', { skip: process.platform !== 'linux' }, async (t) => {
  const server = await start(t)
  await server.post(order(1))
  const env = { SLUICE_URL: server.url, SLUICE_KEY: server.key }
  const stdout = openSync('/dev/full', 'w')
  t.teardown(() => closeSync(stdout))
  const child = spawn(process.execPath, [MAIN, 'tail', '--from', 'start'], { env, stdio: ['ignore', stdout, 'pipe'] })
  const [stderr, [code]] = await Promise.all([text(child.stderr as Readable), once(child, 'exit')])
  t.equal(code, 1)
  t.match(stderr, /^sluice: stdout cannot be written: ENOSPC.*The disk is full.*\.\n$/)
})

t.test('after Ctrl-C, the last record is complete', async (t) => {
  const pages = endlessPages(LONG_PAGE)
  const url = await startStub(t, pages.handle)
  const command = tail(t, { url, key: 'k' }, ['--from', 'start'])
  await stall(command, pages.count)
  command.child.kill('SIGINT')
  command.child.stdout?.resume()
  t.match(await endOf(command), { code: 0, stderr: '', stdout: /\}\n$/ })
  const ids = idsOf(command)
  t.same(
    ids,
    Array.from(ids, (_, at) => String(at + 1)),
  )
  t.ok(ids.length % LONG_PAGE !== 0, 'it did not write the rest of the page')
})

t.test('a second Ctrl-C ends it at once, although nobody reads stdout', async (t) => {
  const pages = endlessPages()
  const url = await startStub(t, pages.handle)
  const command = tail(t, { url, key: 'k' }, ['--from', 'start'])
  await stall(command, pages.count)
  // One that follows at once is the same Ctrl-C.
  await until('the end', () => command.child.exitCode !== null || (command.child.kill('SIGINT') && false))
  command.child.stdout?.resume()
  t.match(await endOf(command), { code: 1, stderr: '' })
})

// — resources —

t.test(
  'if its reader is slow, it requests no more pages, keeps one in memory, and prints each record once',
  async (t) => {
    const pages = endlessPages()
    const url = await startStub(t, pages.handle)
    const command = tail(t, { url, key: 'k' }, ['--from', 'start', '--limit', String(20 * PAGE_RECORDS)])
    for (let n = 1; n <= 5; n++) {
      const requested = await stall(command, pages.count)
      t.ok(requested - idsOf(command).length / PAGE_RECORDS <= 2, `${requested} pages are requested`)
      command.child.stdout?.resume()
      await printed(command, requested * PAGE_RECORDS + 1)
    }
    t.match(await endOf(command), { code: 0, stderr: '' })
    t.same(
      idsOf(command),
      Array.from({ length: 20 * PAGE_RECORDS }, (_, at) => String(at + 1)),
    )
  },
)

// — helpers —

const NOW = { 'retry-after': '0' }
const PROBLEM = { 'content-type': 'application/problem+json' }

async function store({ url, key }: { url: string; key: string }, id: number): Promise<boolean> {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
  const response = await fetch(`${url}/v1/records`, { method: 'POST', headers, body: order(id) }).catch(() => undefined)
  await response?.text().catch(() => {})
  return response?.ok === true
}
