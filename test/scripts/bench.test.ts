import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { openBench } from '../helpers/bench.ts'

const { bench, benchWith, benchDatabaseExists } = await openBench(t)

t.test('a run prints the table, writes it as JSON, and leaves no database behind', async (t) => {
  const file = join(t.testdir(), 'bench.json')
  const { code, stdout, stderr } = await bench('single', '--seconds', '0.2', '--json', file)
  t.equal(code, 0, 'exit code', { stderr })
  t.match(stdout, /^single ours +[\d,]+ +\d+\.\d\d +\d+\.\d\d +\d+\.\d +\d+\.\d\d +\d+\.\d\d$/m)

  const row = { rate: Number, p50_ms: Number, p99_ms: Number, cpu_us: Number, ratios: { limit: Number, naive: Number } }
  const rows = JSON.parse(await readFile(file, 'utf8'))
  t.match(rows, [
    { name: 'single limit', ...row },
    { name: 'single naive', ...row },
    { name: 'single ours', ...row },
  ])
  for (const { rate, cpu_us } of rows) t.ok(rate > 0 && cpu_us > 0)
  t.notOk(await benchDatabaseExists())
})

t.test('the manual describes each measurement that can be chosen', async (t) => {
  const { stdout } = await bench('single', '--help')
  const choices = stdout.replaceAll(/\s+/g, ' ').match(/this measurement \(choices: (.*?)\)/)?.[1] ?? ''
  const names = [...choices.matchAll(/"([a-z]+)"/g)].map(([, name]) => String(name))
  const manual = await readFile('scripts/README.md', 'utf8')
  t.ok(names.includes('floods'))
  for (const name of names) t.match(manual, new RegExp(`--only ${name}\\b|^${name} `, 'm'), name)
})

t.test('the server is compared with itself without metrics and logs', async (t) => {
  const file = join(t.testdir(), 'observability.json')
  const { code, stderr } = await bench('observability', '--seconds', '0.2', '--json', file)
  t.equal(code, 0, 'exit code', { stderr })
  t.match(JSON.parse(await readFile(file, 'utf8')), [
    { name: 'observability unobserved', rate: Number, ratios: { unobserved: 1 } },
    { name: 'observability ours', rate: Number, ratios: { unobserved: Number } },
  ])
})

t.test('a run that loses one acknowledged record fails', async (t) => {
  const { code, stderr } = await benchWith('lose-a-record', 'single', '--seconds', '0.2')
  t.equal(code, 1)
  t.match(stderr, /bench: The ours server acknowledged \d+ records, but \d+ are stored\./)
})

t.test('lines and memory are measured as well', async (t) => {
  const folder = t.testdir()
  const lines = await bench('lines', '--records', '3000', '--json', join(folder, 'lines.json'))
  t.equal(lines.code, 0, 'exit code of lines', lines)
  t.match(JSON.parse(await readFile(join(folder, 'lines.json'), 'utf8')), [
    { name: 'lines ours', rate: Number, ratios: { copy: Number, 'two copies': Number } },
    { name: 'lines resend', rate: Number, ratios: { first: Number } },
    { name: 'lines copy', rate: Number, ratios: { copy: 1 } },
    { name: 'lines two copies', rate: Number, ratios: { 'two copies': 1 } },
  ])

  const memory = await bench('memory', '--gib', '0.002', '--json', join(folder, 'memory.json'))
  t.equal(memory.code, 0, 'exit code of memory', memory)
  t.match(JSON.parse(await readFile(join(folder, 'memory.json'), 'utf8')), [
    { name: 'memory in', rate: Number, rss_mib: Number },
    { name: 'memory out', rate: Number, rss_mib: Number },
  ])
})

t.test('a load with retention is compared with one without, and half of the records are deleted', async (t) => {
  const file = join(t.testdir(), 'retention.json')
  const { code, stderr } = await bench('retention', '--stored', '4000', '--seconds', '0.3', '--json', file)
  t.equal(code, 0, 'exit code', { stderr })
  const row = { rate: Number, p50_ms: Number, p99_ms: Number }
  t.match(JSON.parse(await readFile(file, 'utf8')), [
    { name: 'retention without', ...row },
    { name: 'retention with', ...row, ratios: { without: Number, 'p99 without': Number } },
  ])
  const deletions = [...stderr.matchAll(/deleted (\d+) records/g)].map(([, records]) => Number(records))
  t.equal(
    deletions.reduce((sum, records) => sum + records, 0),
    2000,
  )
})

t.test('old records are counted in the background, and each one once', async (t) => {
  const file = join(t.testdir(), 'backfill.json')
  const args = ['--old-records', '300000', '--seconds', '4', '--json', file]
  const { code, stderr } = await benchWith('lose-a-record', 'backfill', ...args)
  // The record is lost after the comparison of the statistics with the table.
  t.equal(code, 1)
  t.match(stderr, /bench: backfill: 300000 \+ \d+ records should be stored, but \d+ are\.$/m)
  const row = { rate: Number, p50_ms: Number, p99_ms: Number }
  t.match(JSON.parse(await readFile(file, 'utf8')), [
    { name: 'backfill paused', ...row, ratios: { paused: 1 } },
    { name: 'backfill running', ...row, ratios: { paused: Number } },
    { name: 'backfill alone', rate: Number },
  ])
  const counted = (way: string) =>
    [...stderr.matchAll(new RegExp(`backfill ${way}: .* (\\d+) counted`, 'g'))].map(([, n]) => Number(n))
  t.same(counted('paused'), [0, 0])
  t.ok(counted('running').every((records) => records > 0))
})

t.test('a run without old records during its rounds fails', async (t) => {
  const { code, stderr } = await bench('backfill', '--old-records', '2', '--seconds', '0.2')
  t.equal(code, 1)
  t.match(stderr, /bench: backfill: in a round, no old record was left to count, or none was counted/)
})
