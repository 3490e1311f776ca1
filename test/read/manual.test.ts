import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { zstdDecompressSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { createApp } from '../helpers/app.ts'
import { serverFolder } from '../helpers/postgres.ts'
import { missing } from '../helpers/skipping.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const manual = await readFile(join(root, 'src/read/README.md'), 'utf8')
const blocksOf = (language: string) =>
  [...manual.matchAll(new RegExp(`^( *)\`\`\`${language}\\n(.*?)^\\1\`\`\`$`, 'gms'))].map(([, , text = '']) => text)

const server = await createApp(t)
const { post, get, key, database } = server
const url = await server.app.listen({ port: 0 })
for (const record of [
  '{"source":"shop","type":"order.placed","id":"1","time":"2026-02-01T00:00:00Z","data":{"total":12.50,"customer":{"name":"Ann"}}}',
  '{"source":"shop","type":"order.placed","id":"2","time":"2025-02-01T00:00:00Z","data":{"total":9}}',
])
  await post(record)

/** Runs a block of commands as a person would paste it. */
async function paste(t: Test, script: string, input = ''): Promise<{ stdout: string; folder: string }> {
  const folder = t.testdir()
  const sluice = `sluice() { '${process.execPath}' '${join(root, 'src/main.ts')}' "$@"; }\nset -e\n`
  const env = { ...process.env, SLUICE_URL: url, SLUICE_KEY: key }
  const child = spawn('bash', ['-c', sluice + script], { cwd: folder, env })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (text) => (stdout += text))
  child.stderr.on('data', (text) => (stderr += text))
  child.stdin.end(input)
  const [code] = await once(child, 'close')
  t.equal(code, 0, stderr)
  return { stdout, folder }
}

const [exports = '', request = '', psql = ''] = blocksOf('sh')

t.test('its commands export files', async (t) => {
  const { folder } = await paste(t, exports)
  const lines = zstdDecompressSync(await readFile(join(folder, 'orders.ndjson.zst'))).toString()
  t.match(lines, /^\{[^\n]*"id":"1"[^\n]*\}\n$/, 'one record of 2026')
  const csv = 'id,time,data.total,data.customer.name\r\n1,2026-02-01T00:00:00Z,12.50,Ann\r\n'
  t.equal(await readFile(join(folder, 'orders.csv'), 'utf8'), csv)
})

t.test('its request for a page works', { skip: missing('curl') }, async (t) => {
  const adapted = request.replace('http://127.0.0.1:3000', url).replace('$(cat .sluice/key)', key)
  const { stdout } = await paste(t, adapted)
  const records = [{ id: '1', time: '2026-02-01T00:00:00Z', data: { total: 12.5 } }]
  t.same(JSON.parse(stdout), { records, next: null, count: 1 })
})

t.test('its expressions are accepted, and those that it calls impossible are refused', async (t) => {
  const table = manual.slice(manual.indexOf('| you want | write |')).split('\n\n')[0] ?? ''
  const expressions = [...table.matchAll(/`([^`]+)`/g)]
    .map(([, text = '']) => text.replaceAll('\\|', '|'))
    .filter((text) => /[$(]/.test(text))
  t.ok(expressions.length > 12)
  const statusOf = async (path: string) => (await get(`/v1/records?jsonpath=${encodeURIComponent(path)}`)).status
  for (const expression of expressions) t.equal(await statusOf(expression), 200, expression)
  t.equal(await statusOf('$.a == $.b'), 400)
})

t.test('its fields exist', async (t) => {
  const section = manual.slice(manual.indexOf('| you write | it is |'))
  const cells = [...(section.split('\n\n')[0] ?? '').matchAll(/^\| (.*?) \|/gm)].slice(2)
  const fields = cells.flatMap(([, cell = '']) => [...cell.matchAll(/`([^`]+)`/g)].map(([, field]) => field as string))
  t.ok(fields.length > 15)
  for (const field of fields) t.equal((await get(`/v1/records?fields=${encodeURIComponent(field)}`)).status, 200, field)
})

t.test('psql shows the records, as the role that may only read', { skip: missing('psql') }, async (t) => {
  const files = join(serverFolder(), 'postgres')
  const command = psql.replaceAll('.sluice/postgres', files).replace(/ sluice$/m, ` ${database.name} --csv`)
  const { stdout } = await paste(t, command, blocksOf('sql')[0])
  t.equal(stdout, 'source,id,time,total\nshop,1,2026-02-01 00:00:00+00,12.50\n')
})
