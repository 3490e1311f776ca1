import { readdir, readFile } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const src = fileURLToPath(new URL('../src', import.meta.url))

/** The rooms that each room may import. Everything else is forbidden, except that a room may always import itself. */
const ALLOWED: Record<string, string[]> = {
  // Says what is wrong when Node.js is too old.
  'sluice.js': ['main.ts'],
  'main.ts': ['commands', 'lib'],
  commands: ['app.ts', 'logger.ts', 'client', 'access', 'retention', 'backups', 'data', 'postgres', '../db'],
  // Uses the API from outside. It loads neither the server nor a database driver.
  client: [],
  'app.ts': ['plugins', 'routes'],
  routes: ['plugins', 'ingest', 'read', 'access'],
  plugins: ['logger.ts', 'ingest', 'writer', 'access', 'retention', 'data', 'postgres'],
  ingest: ['writer', 'access', 'data', 'postgres'],
  writer: ['data', 'postgres'],
  read: ['access', 'data', 'postgres'],
  access: ['data', 'postgres'],
  retention: ['data', 'postgres'],
  backups: [],
  data: ['postgres'],
  // The driver, and everything that depends on how it works.
  postgres: [],
  'logger.ts': [],
}

/** Any room may import these. They import each other and nothing else. */
const LEAVES = ['schemas', 'config.ts', 'problems.ts', 'lib']

/** The rooms or folders that may import a package. A package without an entry is allowed everywhere. */
const HOME: Record<string, string[]> = {
  fastify: ['app.ts', 'commands', 'plugins', 'routes'],
  pg: ['postgres'],
  kysely: ['data', 'postgres'],
  // Loaded only if traces are enabled.
  '@opentelemetry': ['plugins/tracing'],
  'prom-client': ['lib', 'plugins', 'routes'],
}

t.test('every import is one that the rules allow', async (t) => {
  const wrong: string[] = []
  for (const { from, imported } of await imports()) {
    const room = roomOf(from)
    const target = imported.startsWith('.') ? roomOf(resolve(dirname(from), imported)) : undefined
    const allowed = LEAVES.includes(room) ? LEAVES : [...LEAVES, ...(ALLOWED[room] ?? [])]
    if (target !== undefined && target !== room && !allowed.includes(target)) {
      wrong.push(`${relative(src, from)} imports ${imported}: ${room} may not import ${target}`)
    }
    const homes = HOME[imported.split('/')[0] as string]
    if (homes !== undefined && !homes.some((home) => home === room || relative(src, from).startsWith(`${home}/`)))
      wrong.push(`${relative(src, from)} imports ${imported}: only ${homes.join(', ')} may`)
  }
  t.same(wrong, [])
})

t.test('db imports nothing from src', async (t) => {
  const folder = join(src, '../db')
  const texts = (await readdir(folder, { recursive: true })).filter((file) => file.endsWith('.ts'))
  for (const file of texts) t.notMatch(await readFile(join(folder, file), 'utf8'), /from '(?:\.\.\/)+src\//, file)
})

/** Names of undocumented parts of packages. Each package has one file that may use them, with a test that checks them. */
const UNDOCUMENTED: { names: RegExp; home?: string }[] = [
  {
    names:
      /\b(?:processID|secretKey|readyForQuery|sslNegotiation|onConnect|pg\.Connection)\b|\.connection\b(?!\()|\{ connection\b(?!:)/,
    home: 'postgres/pg-internals.ts',
  },
  { names: /\bregisterMetric\b/, home: 'lib/register-metrics.ts' },
  // Kysely's executor, pino's symbols, and private properties of any object but this one.
  { names: /\bgetExecutor\b|\bpino\.symbols\b|(?<!\b(?:this|super))\._[a-z]/i },
]

t.test('undocumented parts of a package are used in one file', async (t) => {
  const found: string[] = []
  const used = new Set<string>()
  for (const from of await files()) {
    const file = relative(src, from)
    const text = await readFile(from, 'utf8')
    for (const { names, home } of UNDOCUMENTED) {
      const name = names.exec(text)?.[0]
      if (name === undefined) continue
      if (file === home) used.add(home)
      else found.push(`${file} uses ${name}: only ${home ?? 'the package itself'} may`)
    }
  }
  t.same(found, [])
  t.same([...used].sort(), ['lib/register-metrics.ts', 'postgres/pg-internals.ts'])
})

t.test('every room has a rule', async (t) => {
  t.same(
    (await readdir(src)).filter(
      (room) => ALLOWED[room] === undefined && !LEAVES.includes(room) && room !== 'README.md',
    ),
    [],
  )
})

function roomOf(path: string): string {
  const inside = relative(src, path)
  return inside.startsWith('..') ? inside.split('/').slice(0, 2).join('/') : (inside.split('/')[0] as string)
}

async function files(): Promise<string[]> {
  const files = await readdir(src, { recursive: true })
  return files.filter((file) => file.endsWith('.ts')).map((file) => join(src, file))
}

async function imports(): Promise<{ from: string; imported: string }[]> {
  const found = (await files()).map(async (from) => {
    const text = await readFile(from, 'utf8')
    return [...text.matchAll(/(?:^import .*?from |^export .*?from |^import |import\()'([^']+)'/gms)].map((match) => ({
      from,
      imported: match[1] as string,
    }))
  })
  return (await Promise.all(found)).flat()
}
