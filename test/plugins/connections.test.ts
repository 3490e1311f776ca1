import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { connect } from 'node:net'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { skipUnless } from '../helpers/skipping.ts'
import { until } from '../helpers/until.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

// process.memoryUsage, which plugins/shedding.ts needs, opens a file. It failed, and the process ended.
const skip = skipUnless(existsSync('/proc/self/limits'), 'the limit of open files is in /proc')
t.test('a flood of connections leaves files for everything else', { skip }, async (t) => {
  const probe = `process.on('SIGHUP', () => { process.memoryUsage(); console.log('a file was free') })`
  // dash and bash: the limit of this shell and of what it starts.
  const command = 'ulimit -n 128 && exec "$0" --import "$1" "$2" serve'
  const args = ['-c', command, process.execPath, `data:text/javascript,${encodeURIComponent(probe)}`, MAIN]
  const child = spawn('sh', args, {
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      DATABASE_URL: 'postgres://127.0.0.1:1/none',
      PORT: '0',
      METRICS_PORT: '0',
      DRAIN_SECONDS: '0',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exit = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exit
  })
  let log = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    log += text
  })
  const find = (pattern: RegExp) =>
    until(String(pattern), () =>
      child.exitCode === null ? (pattern.exec(log) ?? undefined) : Promise.reject(new Error(log)),
    )
  const [, port] = await find(/Server listening at http:\/\/127\.0\.0\.1:(\d+)/)

  const clients = Array.from({ length: 200 }, () => connect(Number(port), '127.0.0.1').on('error', () => {}))
  t.teardown(() => {
    for (const client of clients) client.destroy()
  })
  t.match(await find(/"msg":"(.* connections are open[^"]*)"/), { 1: /^64 connections .* \(ulimit -n\)$/ })
  child.kill('SIGHUP')
  await find(/a file was free/)
  for (const client of clients) client.destroy()
  await until('a response', () =>
    fetch(`http://127.0.0.1:${port}/healthz`).then(
      ({ ok }) => ok,
      () => false,
    ),
  )
})
