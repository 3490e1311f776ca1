import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { openBench } from '../helpers/bench.ts'

const { bench, benchWith, benchDatabaseExists } = await openBench(t)

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
