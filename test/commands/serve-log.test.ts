import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import type { Readable } from 'node:stream'
import t, { type Test } from 'tap'
import { type Command, runCommand, runServer } from '../helpers/command.ts'
import { createDatabase, createEmptyDatabase } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'

// — the end of the process —

for (const [name, action, err] of [
  ['an uncaught exception', `throw new TypeError('boom')`, { type: 'TypeError', message: 'boom', stack: /boom\n/ }],
  ['an unhandled rejection', `Promise.reject(new RangeError('lost'))`, { type: 'RangeError', message: 'lost' }],
  ['a thrown value that is not an Error', `throw 'just text'`, { type: 'string', message: 'just text' }],
] as const) {
  t.test(`${name} is logged, and the process exits with 1`, async (t) => {
    const server = await startWith(t, action)
    server.child.kill('SIGHUP')
    t.equal(await server.exit, 1)
    t.match(server.logs().at(-1), { level: 'fatal', msg: 'uncaught error: the process ends', err })
    isClean(t, server)
  })
}

// The log is larger than the buffer of a pipe, and nothing reads the pipe. If the last lines are written without regard to the
// write in progress, they end up in the middle of another line, or are lost.
for (const [name, action, code] of [
  ['an exception', `throw new Error('boom')`, 1],
  ['SIGINT', `process.kill(process.pid, 'SIGINT')`, 0],
] as const) {
  t.test(`no line is lost when ${name} ends the process`, async (t) => {
    const many = `for (let n = 0; n < 5000; n++) console.log(n + 'x'.repeat(100))`
    const server = await startWith(t, `if (!globalThis.once) { globalThis.once = true; ${many} } else ${action}`)
    const stdout = server.child.stdout as Readable
    stdout.pause()
    server.child.kill('SIGHUP')
    await until('the pipe to be full', () => stdout.readableLength >= stdout.readableHighWaterMark)
    server.child.kill('SIGHUP')
    // A response means that the action has run. If the process is waiting for the reader of its log, there is none.
    await fetch(`${server.url}/healthz`, { signal: AbortSignal.timeout(5_000) }).catch(() => undefined)
    stdout.resume()
    t.equal(await server.exit, code)
    const lines = server.logs().filter(({ msg }) => /x{100}$/.test(String(msg)))
    t.strictSame(
      lines.map(({ msg }) => Number.parseInt(String(msg), 10)),
      [...Array(5000).keys()],
    )
    isClean(t, server)
  })
}

t.test('no line is lost when process.exit() ends the process', async (t) => {
  const server = await startWith(t, `console.log('the last line'); process.exit(3)`)
  server.child.kill('SIGHUP')
  t.equal(await server.exit, 3)
  t.match(server.logs().at(-1), { msg: 'the last line' })
})

t.test('a signal during the start ends the process, and the log says so', async (t) => {
  // A database that accepts connections, but never responds.
  const database = createServer().listen(0, '127.0.0.1')
  await once(database, 'listening')
  t.teardown(() => database.close())
  const { port } = database.address() as AddressInfo
  const server = runCommand(t, ['serve', '--migrate'], { DATABASE_URL: `postgres://x@127.0.0.1:${port}/x` })
  const [socket] = await once(database, 'connection')
  socket.on('error', () => {})
  server.child.kill('SIGTERM')
  t.equal(await server.exit, 0)
  t.match(server.logs(), [{ msg: 'draining', signal: 'SIGTERM' }, { msg: 'stopped' }])
  isClean(t, server)
})

// — output of Node.js and libraries —

t.test('warnings and deprecations are logged', async (t) => {
  const server = await startWith(t, `process.emitWarning('odd', 'OddWarning', 'ODD1'); new Buffer(1)`)
  server.child.kill('SIGHUP')
  const warned = ({ msg }: Record<string, unknown>) => msg === 'warning from Node.js or a library'
  t.match(await server.log((line) => warned(line) && /odd/.test(JSON.stringify(line))), {
    level: 'warn',
    err: { type: 'OddWarning', message: 'odd', code: 'ODD1' },
  })
  t.match(await server.log((line) => warned(line) && /DEP0005/.test(JSON.stringify(line))), {
    err: { type: 'DeprecationWarning', code: 'DEP0005' },
  })
  server.child.kill('SIGINT')
  t.equal(await server.exit, 0)
  t.equal(server.stdout().match(/DEP0005/g)?.length, 1, 'it is logged once')
  isClean(t, server)
})

t.test('output of console.log and console.error goes to the log', async (t) => {
  const server = await startWith(t, `console.error('%s\\n%d', 'two lines', 5); console.log({ a: 1 })`)
  server.child.kill('SIGHUP')
  t.match(await server.log(({ msg }) => msg === 'two lines\n5'), { level: 'error' })
  t.match(await server.log(({ msg }) => msg === '{ a: 1 }'), { level: 'info' })
  server.child.kill('SIGINT')
  await server.exit
  isClean(t, server)
})

// — usage —

for (const [args, msg] of [
  [['--bogus'], "unknown option '--bogus'"],
  [['--migrat'], "unknown option '--migrat'\n(Did you mean --migrate?)"],
  [['now'], /^too many arguments/],
] as const) {
  t.test(`serve ${args.join(' ')} logs one line and exits with 1`, async (t) => {
    const server = runCommand(t, ['serve', ...args], {})
    t.equal(await server.exit, 1)
    t.match(server.logs(), [{ level: 'fatal', msg }])
    t.equal(server.logs().length, 1)
    isClean(t, server)
  })
}

t.test('an invalid setting is logged, and stderr stays empty', async (t) => {
  const server = runCommand(t, ['serve'], { PORT: 'x' })
  t.equal(await server.exit, 1)
  t.match(server.logs(), [{ level: 'fatal', msg: /^PORT is "x"/ }])
  isClean(t, server)
})

t.test('serve --help and help serve print the usage as plain text', async (t) => {
  for (const args of [
    ['serve', '--help'],
    ['help', 'serve'],
  ]) {
    const help = runCommand(t, args, {})
    t.equal(await help.exit, 0)
    t.match(help.stdout(), /^Usage: sluice serve[\s\S]*--migrate/)
  }
})

// — the log level —

t.test('SIGUSR2 sets the log level to debug, and the next SIGUSR2 sets it back', async (t) => {
  const { apiUrl } = await createDatabase(t)
  const server = await startWith(t, '', { DATABASE_URL: apiUrl })
  const probe = () => fetch(`${server.url}/healthz`)
  const probes = () => server.logs().filter(({ route }) => route === '/healthz').length
  const level = (name: string) => server.log(({ msg }) => msg === `the log level is now ${name}`)
  await probe()

  server.child.kill('SIGUSR2')
  t.match(await level('debug'), { level: 'info', signal: 'SIGUSR2' })
  t.equal(probes(), 0)
  await probe()
  await server.log(({ route }) => route === '/healthz')

  server.child.kill('SIGUSR2')
  await level('info')
  const before = probes()
  await probe()
  server.child.kill('SIGINT')
  t.equal(await server.exit, 0)
  t.equal(probes(), before)
  isClean(t, server)
})

t.test('a change of the log level is logged even if LOG_LEVEL is silent', async (t) => {
  const { ownerUrl } = await createEmptyDatabase(t)
  const server = runCommand(t, ['serve', '--migrate'], { DATABASE_URL: ownerUrl, PORT: '0', LOG_LEVEL: 'silent' })
  // The line for people on stderr says that the server listens.
  const listens = once(server.child.stderr as NonNullable<typeof server.child.stderr>, 'data').then(() => 'listens')
  t.equal(await Promise.race([listens, server.exit]), 'listens')
  t.equal(server.stdout(), '')
  for (const level of ['debug', 'silent']) {
    server.child.kill('SIGUSR2')
    await server.log(({ msg }) => msg === `the log level is now ${level}`)
  }
})

// — helpers —

/** A server that runs `action` at SIGHUP. */
async function startWith(t: Test, action: string, env: Record<string, string> = {}) {
  const preload = `data:text/javascript,${encodeURIComponent(`process.on('SIGHUP', () => { ${action} })`)}`
  const settings = { DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none', ...env }
  return runServer(t, settings, { flags: ['--import', preload] })
}

/** stdout has only JSON lines with the fields that every line has, and stderr is empty. */
function isClean(t: Test, { stdout, stderr, logs }: Command): void {
  t.equal(stderr(), '')
  t.ok(stdout() === '' || stdout().endsWith('\n'))
  t.ok(
    logs().every(({ level, time, msg }) => level && !Number.isNaN(Date.parse(String(time))) && typeof msg === 'string'),
  )
}
