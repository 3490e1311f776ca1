import { execFile, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { type Api, openApi, type Sent } from '../../scripts/persistence/api.ts'
import { type Target, verifyPersistence } from '../../scripts/persistence/verify.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
const script = join(root, 'scripts/verify-persistence.ts')

t.test('--local kills an embedded PostgreSQL while records are stored, and finds them all', async (t) => {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [script, '--local', '--records', '600'])
  t.match(stdout, /All acknowledged records are stored unchanged/)
  t.match(stderr, /--- storing 600 records\n--- restarting PostgreSQL .*\n--- PostgreSQL is available again/)
  t.match(stdout, /records +│ 600 +│ 600 /)
})

t.test('without an option for what to restart, it fails', async (t) => {
  const { status, stderr } = spawnSync(process.execPath, [script], { encoding: 'utf8' })
  t.equal(status, 2)
  t.match(stderr, /--restart pod, --restart-command <command>, or --local/)
})

t.test('an API that cannot be reached, or refuses the key, is an error within seconds', async (t) => {
  const run = (url: string) =>
    spawnSync(process.execPath, [script, '--restart-command', 'true', '--url', url], {
      encoding: 'utf8',
      env: { ...process.env, SLUICE_KEY: 'no key' },
      // Before, it tried for 15 minutes.
      timeout: 120_000,
    })
  const nobody = run('http://127.0.0.1:2')
  t.equal(nobody.status, 2)
  t.match(
    nobody.stderr,
    /^verify-persistence: http:\/\/127\.0\.0\.1:2 has not been available for \d+ s: fetch failed: connect ECONNREFUSED/,
  )

  const server = createServer((_, response) => response.writeHead(401).end('{"code":"unauthorized"}'))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const say = () => {}
  await t.rejects(openApi(`http://127.0.0.1:${port}`, 'no key', say), /returned 401: .*unauthorized/)
})

// A check that cannot fail proves nothing, so each kind of loss happens once.
t.test('it reports missing records, altered records and a changed volume', async (t) => {
  t.strictSame(await complaintsAfter(() => {}), [], 'no complaint if nothing is lost')
  t.match(await complaintsAfter(({ stored }) => stored.delete('3')), [/content changed/, /49 of 50 records are stored/])
  t.match(await complaintsAfter(({ stored }) => stored.set('3', { n: 3, text: 'altered' })), [
    /content/,
    /differs from what was sent/,
  ])
  t.match(await complaintsAfter(({ ongoing }) => ongoing.delete('7')), [/acknowledged, but missing or altered: 7$/])
  t.match(await complaintsAfter((world) => Object.assign(world, { volume: 'another' })), [
    /the volume changed from one to another/,
  ])
})

interface World {
  stored: Map<string, Sent['data']>
  ongoing: Map<string, Sent['data']>
  volume: string
}

/** The complaints of the check after a restart that does `harm`. */
async function complaintsAfter(harm: (world: World) => unknown): Promise<string[]> {
  const world: World = { stored: new Map(), ongoing: new Map(), volume: 'one' }
  const of = (source: string) => (source.endsWith('/stored') ? world.stored : world.ongoing)
  const api: Api = {
    async store(source, records) {
      await new Promise(setImmediate)
      for (const { id, data } of records) of(source).set(id, data)
    },
    readAll: async (source) => new Map(of(source)),
  }
  const target: Target = {
    volume: async () => world.volume,
    restart: async () => void harm(world),
    close: async () => {},
  }
  return (await verifyPersistence(api, target, 50)).complaints
}
