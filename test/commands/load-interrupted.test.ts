import { zstdCompressSync } from 'node:zlib'
import t from 'tap'
import { interruptTwice, runCommand } from '../helpers/command.ts'
import {
  countLines,
  hold,
  load,
  orders,
  report,
  start,
  stored,
  waitForEnd,
  waitForStderr,
  write,
} from '../helpers/load.ts'
import { forward, sendCut, sendProblem, startStub } from '../helpers/proxy.ts'

// — retries —

t.test('a response that is cut without a sign is requested again', async (t) => {
  const server = await start(t)
  let requests = 0
  const url = await startStub(t, async (request, response, body) => {
    const respond = await forward(server.url, request, body)
    requests++
    if (requests === 1) return sendCut(response, 201, { 'content-type': 'application/json' }, '{"counts":{"cre')
    if (requests === 2) return sendCut(response, 503, { 'content-type': 'application/problem+json' }, '{"detail":"A')
    respond(response)
  })
  const { code, counts, stderr } = await load(t, { url, key: server.key }, ['-'], orders(3))
  t.equal(code, 0, stderr)
  t.match(counts, { created: 0, duplicate: 3 })
  t.match(stderr, /is not complete.*; trying again in 0\.5 s\n.*is not complete.*; trying again in 1\.0 s/)
})

t.test('a 503 is retried, but not before Retry-After is over', async (t) => {
  const server = await start(t)
  const times: number[] = []
  const url = await startStub(t, async (request, response, body) => {
    times.push(performance.now())
    if (times.length > 2) return (await forward(server.url, request, body))(response)
    // A proxy that cannot reach its server sends a 502 without a problem document.
    if (times.length === 2) return response.writeHead(502).end('Bad Gateway')
    sendProblem(response, 503, { detail: 'The database is away.', retryable: true }, { 'retry-after': '1' })
  })
  const { code, counts, stderr } = await load(t, { url, key: server.key }, ['-'], orders(3))
  t.equal(code, 0)
  t.match(counts, { created: 3 })
  t.match(stderr, 'The database is away; trying again in 1.0 s')
  t.match(stderr, `${url} answered 502; trying again in 1.0 s`)
  const [first, second] = times as [number, number]
  t.ok(second - first >= 990, 'it waited for a second')
})

t.test('a request is not retried if Retry-After is too long', async (t) => {
  let requests = 0
  const url = await startStub(t, (_request, response) => {
    requests++
    sendProblem(response, 503, { detail: 'Closed.', retryable: true }, { 'retry-after': '86400' })
  })
  const { code, stderr } = await load(t, { url, key: 'k' }, ['-'], orders(3))
  t.equal(code, 1)
  t.equal(stderr, 'sluice: Closed.\n')
  t.equal(requests, 1)
})

// The retry reports the records of the first request as duplicates, although this run created them.
t.test('after a lost response nothing is stored twice, and the summary says what is uncertain', async (t) => {
  const server = await start(t)
  let requests = 0
  const url = await startStub(t, async (request, response, body) => {
    const respond = await forward(server.url, request, body)
    if (++requests === 1) response.destroy()
    else respond(response)
  })
  const content = orders(1500, () => ({ id: undefined }))
  const { code, counts, stderr } = await load(t, { url, key: server.key }, ['-', '--connections', '1'], content)
  t.equal(code, 0)
  t.match(counts, { created: 500, duplicate: 1000 })
  t.match(stderr, 'This run may have created up to 1,000 of the duplicates')
  t.equal((await stored(server)).length, 1500)
})

t.test('records that a request stored before it failed count as created', async (t) => {
  let requests = 0
  const url = await startStub(t, (_request, response) => {
    if (++requests > 1) return report(response, { created: 1, duplicate: 3 })
    const counts = { created: 2, duplicate: 0, conflict: 0, rejected: 0 }
    const extra = { counts, lines: 4, committedLines: 2, rejections: [], rejectionsOmitted: 0 }
    sendProblem(
      response,
      503,
      { detail: 'Full.', retryable: true, outcome: 'unknown', ...extra },
      { 'retry-after': '0' },
    )
  })
  const { counts, code } = await load(t, { url, key: 'k' }, ['-'], orders(4))
  t.equal(code, 0)
  t.match(counts, { created: 3, duplicate: 1 })
})

t.test('a permanent failure ends the run, which reports how far it came', async (t) => {
  const server = await start(t)
  let requests = 0
  const url = await startStub(t, async (request, response, body) => {
    if (++requests <= 2) return (await forward(server.url, request, body))(response)
    sendProblem(response, 401, { detail: 'The API key was revoked.', retryable: false })
  })
  const file = await write(t, 'orders.ndjson', orders(9000))
  const { code, counts, stderr } = await load(t, { url, key: server.key }, [file, '--connections', '1'])
  t.equal(code, 1)
  t.match(counts, { created: 2000, lines: 2000 })
  t.match(
    stderr,
    `sluice: The API key was revoked. Everything up to line 2,000 of ${file} is processed. To continue, run`,
  )
  t.equal(requests, 3)
})

// — interruptions —

t.test('Ctrl-C: the request in flight finishes, nothing more is sent, and the next run stores the rest', async (t) => {
  const server = await start(t)
  const held = hold()
  let requests = 0
  const url = await startStub(t, async (request, response, body) => {
    const respond = await forward(server.url, request, body)
    if (++requests === 3) await held.arrive()
    respond(response)
  })
  const content = orders(8000, (n) => (n % 2 === 0 ? { id: undefined } : {}))
  const file = await write(t, 'orders.ndjson', content)
  const args = ['load', file, '--connections', '1']
  const command = runCommand(t, args, { SLUICE_URL: url, SLUICE_KEY: server.key })
  await held.arrived
  interruptTwice(command)
  await waitForStderr(command, 'Stopping after the current requests')
  held.release()
  const first = await waitForEnd(command)
  t.equal(first.code, 1)
  t.match(first.stderr, `sluice: Interrupted. Everything up to line 3,000 of ${file} is processed.`)
  t.match(first.counts, { created: 3000, lines: 3000 })
  t.equal(requests, 3)

  const second = await load(t, server, [file])
  t.match(second, { code: 0, counts: { created: 5000, duplicate: 3000 } })
  t.equal((await stored(server)).length, 8000)
})

t.test('after SIGKILL, the next run stores only the rest', async (t) => {
  const server = await start(t)
  const held = hold()
  let requests = 0
  const url = await startStub(t, async (request, response, body) => {
    const respond = await forward(server.url, request, body)
    if (++requests === 6) await held.arrive()
    respond(response)
  })
  const content = orders(12_000, () => ({ id: undefined }))
  const file = await write(t, 'orders.ndjson.zst', zstdCompressSync(content))
  const command = runCommand(t, ['load', file], { SLUICE_URL: url, SLUICE_KEY: server.key })
  await held.arrived
  command.child.kill('SIGKILL')
  t.equal(await command.exit, 'SIGKILL')
  held.release()
  const before = (await stored(server)).length
  t.ok(before >= 6000)
  const { code, counts } = await load(t, server, [file])
  t.equal(code, 0)
  t.equal(Number(counts.created) + Number(counts.duplicate), 12_000)
  t.equal((await stored(server)).length, 12_000)
})

t.test('Ctrl-C ends the run while stdin is idle, and an incomplete chunk is not sent', async (t) => {
  const server = await start(t)
  const requested = hold()
  const url = await startStub(t, async (request, response, body) => {
    ;(await forward(server.url, request, body))(response)
    void requested.arrive()
  })
  const env = { SLUICE_URL: url, SLUICE_KEY: server.key }
  const command = runCommand(t, ['load', '-'], env, [], null)
  command.child.stdin?.write(orders(1500))
  await requested.arrived
  command.child.kill('SIGINT')
  const { code, counts, stderr } = await waitForEnd(command)
  t.equal(code, 1)
  t.match(counts, { created: 1000, lines: 1000 })
  t.match(stderr, 'sluice: Interrupted. Everything up to line 1,000 of stdin is processed.')
})

t.test('Ctrl-C ends the run while it waits for a retry', async (t) => {
  const url = await startStub(t, (_request, response) =>
    sendProblem(response, 503, { detail: 'Away.', retryable: true }, { 'retry-after': '100' }),
  )
  const command = runCommand(t, ['load', '-'], { SLUICE_URL: url, SLUICE_KEY: 'k' }, [], orders(3))
  await waitForStderr(command, 'trying again in 100.0 s')
  command.child.kill('SIGINT')
  const { code, stderr } = await waitForEnd(command)
  t.equal(code, 1)
  t.match(stderr, /^sluice: Interrupted\.$/m)
})

// — resources —

t.test('the command loads neither the server nor a database driver', async (t) => {
  const server = await start(t)
  const logModules = `import { registerHooks } from 'node:module'
    registerHooks({ load: (url, context, next) => (process._rawDebug('LOADED ' + url), next(url, context)) })`
  const flags = ['--import', `data:text/javascript,${encodeURIComponent(logModules)}`]
  const env = { SLUICE_URL: server.url, SLUICE_KEY: server.key }
  const command = runCommand(t, ['load', '-'], env, flags, orders(1))
  t.equal(await command.exit, 0)
  const loaded = command.stderr().split('\n')
  t.ok(loaded.some((line) => line.endsWith('/src/commands/load.ts')))
  t.same(
    loaded.filter((line) =>
      /\/node_modules\/(?:pg|kysely|fastify|@fastify|prom-client|@opentelemetry)|\/src\/(?!main|commands|client|schemas|config|problems|lib)/.test(
        line,
      ),
    ),
    [],
  )
})

t.test('a run uses all of its connections at the same time', async (t) => {
  const respond: (() => void)[] = []
  const url = await startStub(t, (_request, response) => {
    respond.push(() => report(response, { created: 1000 }))
    // Responds only when three requests have arrived.
    if (respond.length === 3) for (const send of respond.splice(0)) send()
  })
  const { code, counts } = await load(t, { url, key: 'k' }, ['-', '--connections', '3'], orders(6000))
  t.equal(code, 0)
  t.match(counts, { created: 6000 })
})

t.test('memory does not grow with the input', async (t) => {
  let lines = 0
  const url = await startStub(t, (request, response, body) => {
    const created = countLines(request, body)
    lines += created
    report(response, { created })
  })
  const logMemory = `const logMemory = () => process._rawDebug('RSS ' + process.resourceUsage().maxRSS + ';')
    process.on('SIGHUP', logMemory).on('exit', logMemory)`
  const flags = ['--import', `data:text/javascript,${encodeURIComponent(logMemory)}`]
  const command = runCommand(t, ['load', '-'], { SLUICE_URL: url, SLUICE_KEY: 'k' }, flags, null)
  const block = orders(1000, () => ({ data: 'x'.repeat(900) }))
  for (let n = 0; n < 400; n++) {
    if (n === 100) {
      command.child.kill('SIGHUP')
      await waitForStderr(command, ';')
    }
    if (command.child.stdin?.write(block) === false) {
      await new Promise((resolve) => command.child.stdin?.once('drain', resolve))
    }
  }
  command.child.stdin?.end()
  t.equal(await command.exit, 0)
  t.equal(lines, 400_000)
  const [before, after] = [...command.stderr().matchAll(/RSS (\d+)/g)].map(([, kilobytes]) => Number(kilobytes) / 1024)
  const grown = (after as number) - (before as number)
  t.ok(
    grown < 100,
    `${Math.round(before as number)} MiB for the first 100 MB, ${Math.round(grown)} more for the other 300`,
  )
})

t.test('the help has the options and SLUICE_KEY, and no option for the key', async (t) => {
  const command = runCommand(t, ['load', '--help'], {})
  t.equal(await command.exit, 0)
  t.match(command.stdout(), /--rejected <file>/)
  t.match(command.stdout(), /SLUICE_KEY/)
  t.notMatch(command.stdout(), /--key/)
})
