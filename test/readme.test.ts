import { existsSync } from 'node:fs'
import { glob, readdir, readFile } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { sql } from 'kysely'
import t from 'tap'
import { configTable } from '../scripts/config-table.ts'
import { FAULTS } from '../scripts/durability/faults.ts'
import { before } from '../src/lib/before.ts'
import { runServer } from './helpers/command.ts'
import { connect } from './helpers/connect.ts'
import { createEmptyDatabase } from './helpers/postgres.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const read = (path: string) => readFile(resolve(root, path), 'utf8')
const manual = await read('src/README.md')

t.test("the manual's table of settings is the one generated from the schema", async (t) => {
  t.ok(manual.includes(configTable()), 'update it with: npx node scripts/config-table.ts')
})

t.test("the log has exactly the fields of the manual's table, with these types", async (t) => {
  const table = manual.slice(manual.indexOf('## Logs'), manual.indexOf('- **Level.**'))
  const documented = [...table.matchAll(/^\| `(\w+)` \| (\w+) \| (.*) \|$/gm)]
  const types = Object.fromEntries(documented.map(([, field, type]) => [field, type]))
  const membersOf = (name: string) => {
    const [, , , meaning = ''] = documented.find(([, field]) => field === name) ?? []
    return [...meaning.matchAll(/`(\w+)`/g)].map(([, member]) => member)
  }

  const seen = new Set<string>()
  for (const line of await logEverything()) {
    for (const [field, value] of Object.entries(line)) {
      seen.add(field)
      if (value !== null) t.equal(typeof value, types[field], field)
    }
    for (const name of ['err', 'counts']) {
      for (const member of Object.keys((line[name] as object | undefined) ?? {})) {
        t.ok(membersOf(name).includes(member), `${name}.${member}`)
      }
    }
  }
  // Outages, stalled clients and full disks would take too long here: the source says which fields their lines have.
  for (const field of await fieldsInSource()) seen.add(field)
  t.strictSame([...seen].sort(), Object.keys(types).sort())

  /** The log of a server that migrates, exports traces, stores a record, refuses requests, fails, and is stopped. */
  async function logEverything(): Promise<Record<string, unknown>[]> {
    const { ownerUrl } = await createEmptyDatabase(t)
    const key = 'a-key-that-somebody-chose'
    const env = {
      DATABASE_URL: ownerUrl,
      SLUICE_BOOTSTRAP_KEY: key,
      OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1',
    }
    const server = await runServer(t, env, { args: ['--migrate'] })
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
    const post = (body: string) => fetch(`${server.url}/v1/records`, { method: 'POST', headers, body })
    t.equal((await post('{"source":"shop","type":"t"}')).status, 201)
    await Promise.all(Array.from({ length: 20 }, () => post('{')))
    const db = connect(ownerUrl)
    await sql`ALTER TABLE sluice.records RENAME COLUMN subject TO renamed`.execute(db).finally(() => db.destroy())
    t.equal((await fetch(`${server.url}/v1/records/shop/1`, { headers })).status, 500)
    t.equal((await fetch(`${server.url}/v1/consumers/billing`, { headers })).status, 404)
    server.child.kill('SIGINT')
    t.equal(await server.exit, 0)
    return server.logs()
  }
})

/** The names in each object that the server passes to its log: `log.warn({ err }, …)`, `log[level]({ usedBytes: … }, …)`. */
async function fieldsInSource(): Promise<string[]> {
  const folder = new URL('../src/', import.meta.url)
  const files = (await readdir(folder, { recursive: true })).filter((file) => /^(?:plugins|routes)\/.*\.ts$/.test(file))
  const texts = await Promise.all(files.map((file) => readFile(new URL(file, folder), 'utf8')))
  const objects = [...texts.join('\n').matchAll(/\blog(?:\.\w+|\[\w+\])\(\{ (.*?) \}/gs)]
  return objects.flatMap(([, members = '']) => members.split(',').map((member) => before(member.trim(), ':')))
}

t.test('the durability report has a row for every fault', async (t) => {
  const rows = (await read('scripts/README.md')).split('\n')
  for (const { title } of FAULTS) {
    t.ok(
      rows.some((row) => row.startsWith(`| ${title} `)),
      `update it with: npm run -s durability -- --markdown; ${title}`,
    )
  }
})

t.test('every relative link in a Markdown file leads to a file, and its anchor to a heading', async (t) => {
  const skipped = ['node_modules', '.git', '.tap', '.sluice']
  const files = await Array.fromAsync(
    glob('**/*.md', { cwd: root, exclude: (path) => skipped.includes(basename(path)) }),
  )
  t.ok(files.includes('k8s/components/backup/README.md'), 'files in subfolders are included')
  for (const file of files) {
    for (const [, link = ''] of withoutCode(await read(file)).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link)) continue
      const [path, anchor] = link.split('#') as [string, string | undefined]
      const target = path === '' ? resolve(root, file) : resolve(root, file, '..', path)
      if (!existsSync(target)) t.fail(`${file}: ${link} does not exist`)
      else if (anchor) t.ok((await anchorsOf(target)).has(anchor), `${file}: ${link} has this heading`)
    }
  }
})

const CODE_BLOCK = /^( *)```.*?^\1```$/gms

const withoutCode = (text: string) => text.replaceAll(CODE_BLOCK, '').replaceAll(/`[^`\n]*`/g, '')

/** The anchors that GitHub gives to the headings of a Markdown file. */
async function anchorsOf(path: string): Promise<Set<string>> {
  const headings = (await read(path)).replaceAll(CODE_BLOCK, '').matchAll(/^#+ (.*)$/gm)
  const slug = (heading: string) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-')
  return new Set([...headings].map(([, heading]) => slug(heading as string)))
}
