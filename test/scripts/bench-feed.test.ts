import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { openBench } from '../helpers/bench.ts'

const { bench, benchWith } = await openBench(t)

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
