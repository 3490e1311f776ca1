import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import t from 'tap'
import { createLogger, forPeople, logLine } from '../src/logger.ts'

const LOGGER = new URL('../src/logger.ts', import.meta.url).href

t.test('if the reader of the log is too slow, lines are dropped, and the log says how many', async (t) => {
  // 30 MB in one iteration of the event loop, during which nothing can be written.
  const LINES = 30_000
  const script = `
    import { createLogger } from ${JSON.stringify(LOGGER)}
    const logger = createLogger('info')
    for (let n = 0; n < ${LINES}; n++) logger.info({ n }, 'x'.repeat(1000))
    // Does not call the logger's exit(), which ends the process if the reader takes more than five seconds.
    logger.flush(() => process.exit(0))`
  const { code, lines } = await run(script)
  t.equal(code, 0, 'the process exits after its last line')
  const kept = lines.filter(({ n }) => n !== undefined)
  const notices = lines.filter(({ suppressed }) => suppressed !== undefined)
  t.ok(kept.length < LINES)
  t.match(notices[0], { level: 'warn', msg: /dropped/ })
  t.equal(kept.length + notices.reduce((sum, { suppressed }) => sum + suppressed, 0), LINES)
})

t.test('when the process ends, all lines are written, each once and in order', async (t) => {
  // The first ones fill the buffer, so their write is running. The last ones are still in the buffer when the process ends.
  const [FIRST, LAST] = [200, 3]
  const { code, lines } = await run(`
    import { createLogger, logLine } from ${JSON.stringify(LOGGER)}
    const logger = createLogger('info')
    for (let n = 0; n < ${FIRST}; n++) logger.info({ n }, 'x'.repeat(1000))
    setImmediate(() => {
      for (let n = ${FIRST}; n < ${FIRST + LAST}; n++) logLine(logger, 'info', '"n":' + n, 'last')
      process.exitCode = 7
    })`)
  t.equal(code, 7)
  t.same(
    lines.map(({ n }) => n),
    Array.from({ length: FIRST + LAST }, (_, n) => n),
  )
})

t.test('on a terminal, a request is one line that can be read', async (t) => {
  const output = new PassThrough()
  const logger = createLogger('info', forPeople(output))
  const fields =
    '"requestId":"r","method":"POST","route":"/v1/records","status":201,"durationMs":3.2,"counts":{"created":1}'
  logLine(logger, 'info', fields, 'request')
  logLine(logger, 'info', '"requestId":"r","method":"GET","route":null,"status":404,"durationMs":1', 'request')
  logger.warn({ port: 3000 }, 'other lines')
  const lines = String(output.read()).trimEnd().split('\n')
  t.same(
    lines.map((line) => line.replace(/^\[\d\d:\d\d:\d\d\.\d{3}\] /, '')),
    [
      'INFO: POST /v1/records 201 in 3.2 ms {"counts":{"created":1}}',
      'INFO: GET (no such route) 404 in 1 ms',
      'WARN: other lines {"port":3000}',
    ],
  )
})

async function run(script: string) {
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [text, [code]] = await Promise.all([
    child.stdout.toArray().then((chunks) => Buffer.concat(chunks).toString()),
    once(child, 'close'),
  ])
  const lines = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  return { code, lines }
}
