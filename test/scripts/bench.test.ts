import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sql } from 'kysely'
import t from 'tap'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { UNSHED } from '../helpers/unshed.ts'

const { superUrl, name } = await createDatabase(t)
/** The database that the bench creates next to the given one. */
const DATABASE = `${name}_bench`

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

t.test('a flood is reported with the memory of the server and the latencies of another key', async (t) => {
  const file = join(t.testdir(), 'floods.json')
  const args = ['--floods', 'drip', 'exports', '--flood-seconds', '0.5', '--json', file]
  const { code, stdout, stderr } = await bench('floods', ...args)
  const row = { rate: Number, p50_ms: Number, p99_ms: Number, worst_ms: Number, failed: Number, rss_mib: Number }
  const rows = JSON.parse(await readFile(file, 'utf8'))
  const kinds = ['POST', 'batch', 'GET']
  t.match(rows, [
    ...kinds.map((kind) => ({ name: `drip ${kind}`, ...row })),
    ...kinds.map((kind) => ({ name: `exports ${kind}`, ...row })),
  ])
  t.match(stdout, /worst ms +failed +attacks +peak MiB/)
  t.match(stderr, /^drip: at most \d+ MiB; the flood: \d+ connections, \d+ requests, \d+ waiting, \d+ × 503$/m)
  for (const { name, attacks, rss_mib } of rows) {
    t.ok(attacks >= (name.startsWith('drip') ? 2 : 20), `${name}: ${attacks} attacks`)
    t.ok(rss_mib < 512, `${name}: ${rss_mib} MiB`)
  }
  // The latencies and failures of the other key depend on the load of the machine. Other faults are not allowed.
  const faults = /^bench: (.*)\.$/m.exec(stderr)?.[1]?.split('; ') ?? []
  for (const fault of faults) t.match(fault, /^(drip|exports): (p99|\d+ of \d+) .* of another key /)
  t.equal(code, faults.length > 0 ? 1 : 0, 'exit code', { stderr })
})

t.test('the feed is measured: latency, waiting followers, catching up, and memory', async (t) => {
  const file = join(t.testdir(), 'feed.json')
  const args = ['--seconds', '0.3', '--records', '2000', '--followers', '20', '--json', file]
  const { code, stdout, stderr } = await bench('feed', ...args)
  t.equal(code, 0, 'exit code', { stderr })
  const latencies = { rate: Number, p50_ms: Number, p99_ms: Number }
  const rows = JSON.parse(await readFile(file, 'utf8'))
  t.match(rows, [
    { name: 'feed commit to reader', ...latencies },
    { name: 'feed sending to reader', ...latencies },
    { name: 'feed no follower', ...latencies, queries: Number, ratios: { 'no follower': 1 } },
    { name: 'feed one waits', ...latencies, queries: Number, ratios: { 'no follower': Number } },
    { name: 'feed all wait', ...latencies, queries: Number, ratios: { 'no follower': Number } },
    { name: 'feed lines', rate: Number, cpu_us: Number, ratios: { copy: Number } },
    { name: 'feed pages', rate: Number, cpu_us: Number, ratios: { copy: Number } },
    { name: 'feed copy', rate: Number, ratios: { copy: 1 } },
    { name: 'feed memory', rate: Number, rss_mib: Number },
  ])
  const [commit, sending, none, one, all] = rows
  t.ok(commit.p50_ms < sending.p50_ms, 'a record is committed after it was sent')
  t.ok(none.queries > 0 && one.queries > none.queries, 'the watcher reads the head')
  t.ok(all.queries < one.queries + 2, 'each follower does not read the head')
  t.match(stdout, /CPU µs\/record +queries\/s +peak MiB +vs no follower +vs copy/)
})

t.test('a run whose followers miss one record fails', async (t) => {
  const { code, stderr } = await benchWith('lose-an-event', 'feed', '--seconds', '0.3')
  t.equal(code, 1)
  t.match(stderr, /^bench: feed latency: followers missed 1 record, or got it twice\.$/m)
})

t.test('a server that ends during a flood is reported, and the run fails', async (t) => {
  const args = ['--floods', 'drip', '--flood-seconds', '0.5']
  const { code, stderr } = await benchWith('end-at-the-second-insert', 'floods', ...args)
  t.equal(code, 1)
  t.match(
    stderr,
    /^bench: drip: the server ended \(SIGKILL\); drip: \d+ of \d+ requests \(POST\) of another key failed/m,
  )
  t.notOk(await benchDatabaseExists())
})

function bench(only: string, ...args: string[]) {
  return run(only, args, {})
}

/** The same, with a file of test/fixtures that each of its processes loads. */
function benchWith(fixture: string, only: string, ...args: string[]) {
  const file = new URL(`../fixtures/${fixture}.ts`, import.meta.url).href
  return run(only, args, { NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --import=${file}` })
}

function run(only: string, args: string[], more: Record<string, string>) {
  const env = { ...process.env, ...UNSHED, DATABASE_URL: superUrl, ...more }
  const all = ['scripts/bench/main.ts', '--rounds', '1', '--only', only, ...args]
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    const child = execFile(process.execPath, all, { env }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    )
  })
}

async function benchDatabaseExists(): Promise<boolean> {
  const db = connect(superUrl)
  try {
    const { rows } = await sql`SELECT FROM pg_database WHERE datname = ${DATABASE}`.execute(db)
    return rows.length > 0
  } finally {
    await db.destroy()
  }
}
