import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const SLUICE = fileURLToPath(new URL('../../src/sluice.js', import.meta.url))

/** Prints the names of the packages from which modules were loaded. */
const PRELOAD = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from 'node:module'
  const packages = new Set()
  registerHooks({ load(url, context, next) {
    const name = /.*\\/node_modules\\/((?:@[^/]+\\/)?[^/]+)/.exec(url)?.[1]
    if (name !== undefined) packages.add(name)
    return next(url, context)
  } })
  process.on('exit', () => console.error('\\npackages: ' + [...packages].join(' ')))`)}`

/** @returns the packages that this command loads */
async function packagesOf(args: string[]): Promise<string[]> {
  const env = { PATH: process.env.PATH, DATABASE_URL: 'postgres://127.0.0.1:1/none', SLUICE_KEY: 'k'.repeat(20) }
  const stderr = await new Promise<string>((resolve) => {
    execFile(process.execPath, ['--import', PRELOAD, SLUICE, ...args], { env }, (_error, _stdout, text) =>
      resolve(text),
    )
  })
  return (/^packages: (.*)$/m.exec(stderr)?.[1] ?? 'nothing was printed').split(' ')
}

// A command on a shell is awaited by a person. The server's packages alone take half a second.
t.test('commands of a shell load neither the server nor, unless they need it, a database driver', async (t) => {
  const server = /^(?:fastify|@fastify\/.*|prom-client|@opentelemetry\/.*)$/
  const database = /^(?:pg|kysely|ajv|@sinclair\/typebox|pino)$/
  const unreachable = ['--url', 'http://127.0.0.1:1']
  for (const [args, foreign] of [
    [['--help'], [server, database]],
    [
      ['load', '--help'],
      [server, database],
    ],
    [
      ['load', ...unreachable, '-'],
      [server, database],
    ],
    [
      ['export', ...unreachable],
      [server, database],
    ],
    [
      ['tail', ...unreachable],
      [server, database],
    ],
    [['keys', 'list'], [server]],
    [['migrate'], [server]],
  ] as const) {
    const packages = await packagesOf([...args])
    t.ok(packages.includes('commander'), args.join(' '))
    t.same(
      packages.filter((name) => foreign.some((pattern) => pattern.test(name))),
      [],
      args.join(' '),
    )
  }
})
