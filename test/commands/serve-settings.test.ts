import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { failToServe, runCommand } from '../helpers/command.ts'
import { missing, skipUnless } from '../helpers/skipping.ts'

t.test('an invalid setting is logged with its allowed values, and the process exits with 1', async (t) => {
  for (const [name, value, allowed] of [
    ['PORT', 'abc', 'a whole number from 0 to 65535'],
    ['PORT', '65536', 'a whole number from 0 to 65535'],
    ['LOG_LEVEL', 'loud', 'one of trace, debug, info, warn, error, fatal, silent'],
    ['FLUSH_MAX_ROWS', '0', 'a whole number from 1 to 500000'],
    [
      'MAX_RECORD_BYTES',
      '1e3',
      'at least 1024 bytes: 67108864, 64MiB or 1.5GB (units: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)',
    ],
    ['DRAIN_SECONDS', '-1', 'a number from 0 to 600'],
  ] as const) {
    const { code, logs } = await failToServe(t, { [name]: value })
    t.equal(code, 1)
    t.match(logs, [{ level: 'fatal', msg: `${name} is "${value}", but must be ${allowed}` }], `${name}=${value}`)
    t.equal(logs.length, 1)
    t.notOk('err' in (logs[0] as object), 'no stack trace')
  }
})

t.test('all invalid settings are reported at once', async (t) => {
  const { logs } = await failToServe(t, { PORT: 'x', LOG_LEVEL: 'y' })
  t.match(logs, [{ msg: /PORT is "x".*\n.*LOG_LEVEL is "y"|LOG_LEVEL is "y".*\n.*PORT is "x"/ }])
})

t.test('an invalid secret is not shown', async (t) => {
  for (const [name, value] of [
    ['DATABASE_URL', 'mysql://root:hush@db/x'],
    ['DATABASE_URL', 'postgres://root:hush@db:port/x'],
    ['SLUICE_BOOTSTRAP_KEY', 'hush'],
  ] as const) {
    const { code, logs, output } = await failToServe(t, { [name]: value })
    t.equal(code, 1)
    t.match(logs, [{ level: 'fatal', msg: new RegExp(`^${name} is a value that is not shown here, but must be `) }])
    t.notMatch(output, 'hush')
  }
})

t.test('keys and migrate report an invalid setting on stderr', async (t) => {
  for (const args of [['keys', 'list'], ['migrate']]) {
    const { exit, stderr, stdout } = runCommand(t, args, { DATABASE_URL: 'postgres://x/y', PORT: 'abc' })
    t.equal(await exit, 1)
    t.equal(stderr(), 'sluice: PORT is "abc", but must be a whole number from 0 to 65535.\n')
    t.equal(stdout(), '')
  }
})

/** The first port that everybody may use; containers often allow all. */
const firstPort = () => Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'))
const skip = missing('setpriv') || skipUnless(firstPort() > 81, 'everybody may use port 81')

t.test('a port that only root may use is explained', { skip }, async (t) => {
  // Root without this capability is refused as well.
  const privileges = process.getuid?.() === 0 ? ['--bounding-set=-net_bind_service'] : ['--no-new-privs']
  const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
  const env = { PATH: process.env.PATH, DATABASE_URL: 'postgres://127.0.0.1:1/none', PORT: '81', METRICS_PORT: '0' }
  const child = spawn('setpriv', [...privileges, process.execPath, main, 'serve'], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exit = once(child, 'exit')
  const log = (await child.stdout.toArray()).join('')
  t.same(await exit, [1, null])
  t.match(log, /"level":"fatal".*Port 81 needs root .*Choose a port above 1023, such as PORT=3081/)
})
