import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { skipUnless } from '../helpers/skipping.ts'
import { until } from '../helpers/until.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

// The main thread tried to write forever: not even /healthz had a response, and SIGTERM had no effect.
const skip = skipUnless(existsSync('/dev/full'), 'there is no /dev/full')
t.test('with its output on a full disk, the server responds, and SIGTERM ends it', { skip }, async (t) => {
  const full = openSync('/dev/full', 'w')
  t.teardown(() => closeSync(full))
  const { url, child } = await startServer(t, full)
  // Each is a line of the log.
  for (let n = 0; n < 50; n++) t.equal((await fetch(`${url}/healthz`)).status, 200)
  child.kill('SIGTERM')
  t.same(await once(child, 'exit'), [0, null])
})

t.test('without a reader of its output, the server responds, and SIGTERM ends it', async (t) => {
  const { url, child } = await startServer(t, 'pipe')
  child.stdout?.destroy()
  child.stderr?.destroy()
  for (let n = 0; n < 50; n++) t.equal((await fetch(`${url}/healthz`)).status, 200)
  child.kill('SIGTERM')
  t.same(await once(child, 'exit'), [0, null])
})

t.test('when a full disk has space again, the log continues and says how many lines were dropped', async (t) => {
  const disk = await makeDisk(t, '64k')
  if (disk === undefined) {
    skipUnless(false, 'only root may mount a file system')
    return
  }
  const file = join(disk, 'log')
  const output = openSync(file, 'a')
  t.teardown(() => closeSync(output))
  // More than the memory for lines that wait.
  const LINES = 24_000
  const { url, child } = await startServer(
    t,
    output,
    `for (let n = 0; n < ${LINES}; n++) console.log(n + ' '.repeat(1000))`,
  )
  child.kill('SIGHUP')
  await until('the disk to be full', () => readFileSync(file).length >= 65_536)
  t.equal((await fetch(`${url}/healthz`)).status, 200)
  spawnSync('mount', ['-o', 'remount,size=64m', disk])

  const read = () =>
    readFileSync(file, 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as { msg: string; suppressed?: number })
  const notice = await until('the notice', () => read().find(({ suppressed }) => suppressed !== undefined))
  const kept = read().filter(({ msg }) => /^\d+ {1000}$/.test(msg))
  t.match(notice, { level: 'warn', msg: /lines were dropped/ })
  t.ok(kept.length < LINES)
  t.equal(kept.length + (notice.suppressed ?? 0), LINES)
  t.ok((await fetch(`${url}/healthz`)).ok)
  child.kill('SIGTERM')
  t.same(await once(child, 'exit'), [0, null])
  t.match(read().at(-1), { msg: 'stopped' })
})

/** `serve` with this as stdout and stderr. It runs `action` at SIGHUP. */
async function startServer(
  t: Test,
  output: number | 'pipe',
  action = '',
): Promise<{ url: string; child: ChildProcess }> {
  const port = await freePort()
  const preload = `data:text/javascript,${encodeURIComponent(`process.on('SIGHUP', () => { ${action} })`)}`
  const child = spawn(process.execPath, ['--import', preload, MAIN, 'serve'], {
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none',
      PORT: String(port),
      METRICS_PORT: '0',
      LOG_LEVEL: 'debug',
      DRAIN_SECONDS: '0',
    },
    stdio: ['ignore', output, output],
  })
  const exit = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exit
  })
  const url = `http://127.0.0.1:${port}`
  await until('the server', () =>
    fetch(`${url}/healthz`).then(
      ({ ok }) => ok,
      () => false,
    ),
  )
  return { url, child }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** A file system of this size. @returns its folder; undefined if this user may not mount one */
async function makeDisk(t: Test, size: string): Promise<string | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'disk-'))
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder]).status === 0
  t.teardown(async () => {
    // Lazily: the output is closed after this.
    if (mounted) spawnSync('umount', ['-l', folder])
    await rm(folder, { recursive: true, force: true })
  })
  return mounted ? folder : undefined
}
