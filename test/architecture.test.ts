import { readdir, readFile } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('..', import.meta.url))
const src = join(root, 'src')

/** The rooms that each room may import, besides itself and the leaves. Everything else is forbidden. */
const ALLOWED: Record<string, string[]> = {
  // Says what is wrong when Node.js is too old.
  'sluice.js': ['main.ts'],
  'main.ts': ['commands'],
  commands: ['app.ts', 'logger.ts', 'client', 'access', 'retention', 'backups', 'data', 'postgres', '../db'],
  // Uses the API from outside. It loads neither the server nor a database driver.
  client: [],
  // Runs in browsers, and knows the API only from outside.
  console: [],
  'app.ts': ['plugins', 'routes'],
  routes: ['plugins', 'ingest', 'read', 'feed', 'stats', 'access'],
  plugins: [
    'logger.ts',
    'ingest',
    'writer',
    'read',
    'feed',
    'stats',
    'status',
    'access',
    'retention',
    'data',
    'postgres',
  ],
  ingest: ['writer', 'access', 'data', 'postgres'],
  writer: ['data', 'postgres'],
  read: ['access', 'data', 'postgres'],
  feed: ['read', 'access', 'data', 'postgres'],
  stats: ['ingest', 'read', 'access', 'data'],
  status: ['data'],
  access: ['data', 'postgres'],
  retention: ['data', 'postgres'],
  backups: [],
  data: ['postgres'],
  // Connections, the wire format, migrations and roles. It knows nothing of the queries in `data`.
  postgres: [],
  'logger.ts': [],
}

/** Rooms that every room may import, and what they may import themselves. */
const LEAVES: Record<string, string[]> = {
  schemas: ['problems.ts', 'lib'],
  lib: ['problems.ts'],
  'problems.ts': [],
  'config.ts': ['lib'],
}

/** The files or folders that may import a package. A package without an entry is allowed everywhere. */
const HOME: Record<string, string[]> = {
  fastify: ['app.ts', 'commands', 'plugins', 'routes'],
  'fastify-plugin': ['plugins'],
  '@fastify': ['app.ts', 'plugins', 'routes'],
  pg: ['postgres'],
  'pg-pool': ['postgres'],
  'pg-protocol': ['postgres'],
  kysely: ['data', 'postgres'],
  s3mini: ['backups'],
  // Loaded only if traces are enabled.
  '@opentelemetry': ['plugins/tracing'],
  'prom-client': ['plugins', 'routes/records.ts'],
}

t.test('every import is one that the rules allow', async (t) => {
  const wrong: string[] = []
  for (const { file, text } of await filesOf('src')) {
    const room = roomOf(file)
    const allowed = LEAVES[room] ?? [...Object.keys(LEAVES), ...(ALLOWED[room] ?? [])]
    for (const imported of importsOf(text)) {
      const target = imported.startsWith('.') ? roomOf(resolve(dirname(file), imported)) : room
      if (target !== room && !allowed.includes(target))
        wrong.push(`${relative(src, file)} imports ${imported}: ${room} may not import ${target}`)
      const homes = HOME[imported.split('/')[0] as string]
      if (homes !== undefined && !homes.some((home) => `${relative(src, file)}/`.startsWith(`${home}/`)))
        wrong.push(`${relative(src, file)} imports ${imported}: only ${homes.join(', ')} may`)
    }
  }
  t.same(wrong, [])
})

t.test('the rules find every kind of import', (t) => {
  const text = `import './a.ts'
    import b from "./b.ts"
    export { c } from './c.ts'
    import type { d,
      e } from './d.ts'
    const f = await import(
      './f.ts'
    )
    type G = import(\`./g.ts\`).G`
  t.same(importsOf(text), ['./a.ts', './b.ts', './c.ts', './d.ts', './f.ts', './g.ts'])
  t.end()
})

t.test('db imports nothing from outside db', async (t) => {
  const wrong = (await filesOf('db')).flatMap(({ file, text }) =>
    importsOf(text).filter(
      (name) => name.startsWith('.') && !resolve(dirname(file), name).startsWith(join(root, 'db/')),
    ),
  )
  t.same(wrong, [])
})

t.test('every room has a rule', async (t) => {
  const rooms = (await readdir(src)).filter((room) => room !== 'README.md')
  t.same(
    rooms.filter((room) => ALLOWED[room] === undefined && LEAVES[room] === undefined),
    [],
  )
})

t.test('every export has an importer', async (t) => {
  const all = (await Promise.all(['src', 'db', 'scripts', 'test'].map(filesOf))).flat()
  const unused: string[] = []
  for (const { file, text } of all) {
    for (const [, name] of text.matchAll(/^export (?:async )?(?:function\*?|class|const|let|interface|type) (\w+)/gm)) {
      const isUsed = all.some((other) => other.file !== file && new RegExp(`\\b${name}\\b`).test(other.text))
      if (!isUsed) unused.push(`${relative(root, file)}: ${name}`)
    }
  }
  t.same(unused, [])
})

/** Texts that may occur in some files only. Undocumented parts of a package have one file, and a test that checks them. */
const ONLY_IN: { rule: string; texts: RegExp; files: string[] }[] = [
  {
    rule: 'undocumented parts of pg',
    texts:
      /\b(?:processID|secretKey|readyForQuery|sslNegotiation|onConnect|pg\.Connection)\b|\.connection\b(?!\()|\{ connection\b(?!:)/,
    files: ['postgres/pg-internals.ts'],
  },
  { rule: 'undocumented parts of prom-client', texts: /\bregisterMetric\b/, files: ['plugins/metrics/register.ts'] },
  // Kysely's executor, pino's symbols, and private properties of any object but this one.
  {
    rule: 'undocumented parts of other packages',
    texts: /\bgetExecutor\b|\bpino\.symbols\b|(?<!\b(?:this|super))\._[a-z]/i,
    files: [],
  },
  {
    rule: 'queries',
    texts: /\.(?:selectFrom|insertInto|updateTable|deleteFrom)\(|\bsql(?:<.*?>)?`/,
    files: ['data', 'postgres'],
  },
  // The two others read secrets that no other command may have.
  {
    rule: 'the environment',
    texts: /\bprocess\.env\b(?!;)/,
    files: ['config.ts', 'client/key.ts', 'commands/bootstrap.ts'],
  },
]

for (const { rule, texts, files } of ONLY_IN) {
  t.test(`${rule}: only in ${files.join(', ') || 'no file'}`, async (t) => {
    const found = (await filesOf('src')).filter(({ text }) => texts.test(text)).map(({ file }) => relative(src, file))
    const isAllowed = (file: string) => files.some((home) => `${file}/`.startsWith(`${home}/`))
    t.same(
      found.filter((file) => !isAllowed(file)),
      [],
    )
    for (const home of files)
      t.ok(
        found.some((file) => `${file}/`.startsWith(`${home}/`)),
        `${home} needs the exception`,
      )
  })
}

/** @returns the first folder of a path in `src`, or its file; for a path outside of `src`, `../` and the first folder */
function roomOf(path: string): string {
  const parts = relative(src, path).split('/')
  return parts.slice(0, parts[0] === '..' ? 2 : 1).join('/')
}

async function filesOf(folder: string): Promise<{ file: string; text: string }[]> {
  const names = (await readdir(join(root, folder), { recursive: true })).filter((name) => /\.[jt]s$/.test(name))
  return Promise.all(
    names.map(async (name) => {
      const file = join(root, folder, name)
      return { file, text: await readFile(file, 'utf8') }
    }),
  )
}

function importsOf(text: string): string[] {
  return [...text.matchAll(/\b(?:from|import)\s*\(?\s*(['"`])([^'"`\n]+)\1/g)].map((match) => match[2] as string)
}
