import { readdir, readFile } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const src = fileURLToPath(new URL('../src', import.meta.url))

/** Which room may import which. Whatever is not said here is forbidden; a room may always import itself. */
const ALLOWED: Record<string, string[]> = {
  // Says what is wrong when Node.js is too old.
  'sluice.js': ['main.ts'],
  'main.ts': ['commands', 'lib'],
  commands: ['app.ts', 'config.ts', 'logger.ts', 'client', 'schemas', 'operate', 'data', 'lib', '../db'],
  // What uses the API from outside: it is loaded without the server and without a database.
  client: ['schemas', 'ingest', 'lib'],
  'app.ts': ['config.ts', 'plugins', 'routes'],
  plugins: ['config.ts', 'logger.ts', 'traces', 'schemas', 'metrics', 'ingest', 'read', 'operate', 'data', 'lib'],
  routes: ['config.ts', 'plugins', 'schemas', 'metrics', 'ingest', 'read', 'operate', 'lib'],
  // What is told of those below; they know nothing of it.
  metrics: ['schemas', 'ingest', 'read', 'operate', 'data', 'lib'],
  ingest: ['schemas', 'operate', 'data', 'lib'],
  read: ['schemas', 'ingest', 'operate', 'data', 'lib'],
  operate: ['schemas', 'data', 'lib'],
  data: ['lib'],
  traces: ['config.ts', 'data'],
  schemas: ['lib'],
  lib: [],
  'config.ts': [],
  'logger.ts': [],
}

/** Packages that belong to one layer. */
const HOME: Record<string, string[]> = {
  fastify: ['app.ts', 'commands', 'plugins', 'routes'],
  pg: ['data'],
  kysely: ['data'],
  // Loaded only where traces are wanted, and so by nobody else.
  '@opentelemetry': ['traces'],
  'prom-client': ['metrics', 'plugins', 'routes'],
}

t.test('every import goes the way the arrows go', async (t) => {
  const wrong: string[] = []
  for (const { from, imported } of await imports()) {
    const room = roomOf(from)
    const target = imported.startsWith('.') ? roomOf(resolve(dirname(from), imported)) : undefined
    if (target !== undefined && target !== room && !ALLOWED[room]?.includes(target)) {
      wrong.push(`${relative(src, from)} imports ${imported}: ${room} may not import ${target}`)
    }
    const homes = HOME[imported.split('/')[0] as string]
    if (homes !== undefined && !homes.includes(room))
      wrong.push(`${relative(src, from)} imports ${imported}: only ${homes.join(', ')} may`)
  }
  t.same(wrong, [])
})

t.test('every room is named in the rules', async (t) => {
  t.same(
    (await readdir(src)).filter((room) => ALLOWED[room] === undefined && room !== 'README.md'),
    [],
  )
})

function roomOf(path: string): string {
  const inside = relative(src, path)
  return inside.startsWith('..') ? inside.split('/').slice(0, 2).join('/') : (inside.split('/')[0] as string)
}

async function imports(): Promise<{ from: string; imported: string }[]> {
  const files = (await readdir(src, { recursive: true })).filter((file) => file.endsWith('.ts'))
  const found = files.map(async (file) => {
    const from = join(src, file)
    const text = await readFile(from, 'utf8')
    return [...text.matchAll(/(?:^import .*?from |^export .*?from |^import |import\()'([^']+)'/gms)].map((match) => ({
      from,
      imported: match[1] as string,
    }))
  })
  return (await Promise.all(found)).flat()
}
