import { spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import t from 'tap'
import packageJson from '../../package.json' with { type: 'json' }
import { ConfigSchema, loadConfig } from '../../src/config.ts'
import { roleNames } from '../../src/postgres/roles.ts'
import { file, manual, put, repository, units } from '../helpers/operator-manual.ts'
import { missing } from '../helpers/skipping.ts'

const API = '/etc/systemd/system/sluice-api@.service'

t.test(
  'systemd accepts every unit of the manual, and finds little to harden',
  { skip: missing('systemd-analyze') },
  async (t) => {
    const root = await mkdtemp(join(tmpdir(), 'units-'))
    t.teardown(() => rm(root, { recursive: true }))
    // Programs must exist.
    for (const path of units) await put(join(root, path), file(path).replaceAll('/opt/sluice', repository))
    const services = units.filter((path) => /\.(?:service|timer)$/.test(path))
    t.equal(services.length, 5)
    for (const path of services) {
      const unit = join(root, path.replace('@.', '@3000.'))
      if (path === API) await put(unit, file(path).replaceAll('/opt/sluice', repository))
      // It warns about an unknown name, and exits with 0.
      t.match(analyze('verify', '--man=no', unit), { status: 0, stdout: '', stderr: '' }, path)
      // 10 is the worst. The drop-in of the manual is in effect.
      if (unit.endsWith('.service'))
        t.equal(analyze('security', '--offline=true', '--threshold=20', unit).status, 0, path)
    }

    await put(
      join(root, '/etc/systemd/system/sluice-.service.d/other.conf'),
      '[Service]\nMistyped=yes\nPrivateDevices=no\n',
    )
    t.match(analyze('verify', '--man=no', join(root, services[1] as string)).stderr, /Mistyped/, 'it finds mistakes')
  },
)

function analyze(...args: string[]) {
  return spawnSync('systemd-analyze', ['--no-pager', ...args], { encoding: 'utf8', timeout: 60_000 })
}

t.test('the service runs like npm start, and systemd waits until it has ended by itself', async (t) => {
  const unit = file(API)
  const [, flags] = /^node (.*) src\/sluice\.js/.exec(packageJson.scripts.start) ?? []
  t.ok(unit.includes(`/opt/sluice/node_modules/node/bin/node ${flags} /opt/sluice/src/sluice.js serve\n`))
  const { DRAIN_SECONDS, CLOSE_SECONDS } = loadConfig({})
  const [, stop] = /^TimeoutStopSec=(\d+)$/m.exec(unit) ?? []
  t.ok(Number(stop) > DRAIN_SECONDS + CLOSE_SECONDS + 5, `${stop} s`)
})

t.test('the proxies wait longer than Sluice does, and close idle connections before it stops', async (t) => {
  const { OUTAGE_HOLD_SECONDS, READ_TIMEOUT_SECONDS, DRAIN_SECONDS } = loadConfig({})
  const longest = Math.max(OUTAGE_HOLD_SECONDS, READ_TIMEOUT_SECONDS)
  for (const [path, timeouts, keepAlive] of [
    ['/etc/nginx/conf.d/sluice.conf', /proxy_(?:read|send)_timeout (\d+)s;/g, /keepalive_timeout (\d+)s;/],
    ['/etc/caddy/Caddyfile', /response_header_timeout (\d+)s/g, /keepalive (\d+)s/],
  ] as const) {
    const found = [...file(path).matchAll(timeouts)].map(([, seconds]) => Number(seconds))
    t.ok(found.length > 0 && found.every((seconds) => seconds > longest), `${path}: ${found}`)
    t.ok(Number(keepAlive.exec(file(path))?.[1]) < DRAIN_SECONDS, path)
  }
})

t.test('every setting in the manual exists', async (t) => {
  const others = [
    ...roleNames.map((role) => `${role.toUpperCase()}_PASSWORD`),
    ...['PGPASSWORD', 'BACKUPS', 'KEEP', 'KEEP_DAYS', 'SCRATCH', 'PATH', 'ROLES', 'SUPERUSER', 'NEW', 'ON_ERROR_STOP'],
  ]
  const named = manual.matchAll(/(?<![\w$/*])([A-Z][A-Z_]{2,})=|`([A-Z]+_[A-Z_]+)`|\b([A-Z]+_SECONDS)\b/g)
  const names = new Set([...named].map(([, assigned, quoted, seconds]) => assigned ?? quoted ?? (seconds as string)))
  t.ok(names.size > 10)
  const known = new Set([...Object.keys(ConfigSchema.properties), ...others])
  t.strictSame(
    [...names].filter((name) => !known.has(name)),
    [],
    basename(API),
  )
  loadConfig(
    Object.fromEntries(
      file('/etc/sluice/settings.env')
        .trim()
        .split('\n')
        .map((line) => line.split('=')),
    ),
  )
})
