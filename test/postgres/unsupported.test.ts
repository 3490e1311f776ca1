import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import t, { type Test } from 'tap'
import { requireVersion } from '../../src/postgres/unsupported.ts'
import { runCommand } from '../helpers/command.ts'

/** A server that accepts every login as this version, and knows no statement. @returns its URL */
async function startServer(t: Test, version: string): Promise<string> {
  const message = (type: string, body: Buffer) => {
    const length = Buffer.alloc(4)
    length.writeInt32BE(body.length + 4)
    return Buffer.concat([Buffer.from(type), length, body])
  }
  const ok = Buffer.concat([
    message('R', Buffer.alloc(4)),
    message('S', Buffer.from(`server_version\0${version}\0`)),
    message('K', Buffer.alloc(8)),
    message('Z', Buffer.from('I')),
  ])
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.write(ok))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return `postgres://shop:hush@127.0.0.1:${(server.address() as AddressInfo).port}/sluice`
}

t.test('versions before 18 are refused, and newer ones are not', async (t) => {
  for (const version of ['15.18 (Debian 15.18-0+deb12u1)', '17.9', '9.6.24', '13.0.0', '15.2-YB-2025.1']) {
    t.throws(() => requireVersion(version, 'db:5432', 'DATABASE_URL'), { name: 'UnsupportedServerError' }, version)
  }
  for (const version of ['18.1', '18beta1', '19devel', '20.0', '']) requireVersion(version, 'db:5432', 'DATABASE_URL')
})

// It started, and a later command failed.
t.test('every command that connects refuses an old PostgreSQL with one sentence', async (t) => {
  const url = await startServer(t, '15.18 (Debian 15.18-0+deb12u1)')
  const sentence =
    /PostgreSQL at 127\.0\.0\.1:\d+ has version 15\.18, but Sluice needs version 18 or later\. Upgrade it, or set (\w+) to/
  const file = `${t.testdir({ 'policies.json': '[{"maxAge":"1d"}]' })}/policies.json`
  const passwords = ['OWNER', 'API', 'MAINTENANCE', 'BACKUP', 'READER'].map((role) => [`SLUICE_${role}_PASSWORD`, 'x'])
  const commands = [
    'migrate',
    'bootstrap',
    `maintain --policies ${file}`,
    'epoch begin',
    'keys list',
    'serve --migrate',
    'serve',
  ]
  const unreachable = 'postgres://127.0.0.1:1/none'
  const cases: [string, Record<string, string>][] = [
    ...commands.map((args) => [args, { DATABASE_URL: url }] as [string, Record<string, string>]),
    ['serve', { DATABASE_URL: unreachable, DATABASE_READ_URL: url }],
  ]
  await Promise.all(
    cases.map(async ([args, urls]) => {
      const settings = { ...urls, PORT: '0', METRICS_PORT: '0', ...Object.fromEntries(passwords) }
      const command = runCommand(t, args.split(' '), settings)
      t.equal(await command.exit, 1, args)
      const fatal = args.startsWith('serve')
        ? command.logs().find(({ level }) => level === 'fatal')?.msg
        : command.stderr()
      const setting = urls.DATABASE_READ_URL === undefined ? 'DATABASE_URL' : 'DATABASE_READ_URL'
      t.equal(sentence.exec(String(fatal))?.[1], setting, args)
      t.notMatch(command.stdout() + command.stderr(), 'hush')
    }),
  )
})
