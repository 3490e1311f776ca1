import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { openBench } from '../helpers/bench.ts'
import { missing } from '../helpers/skipping.ts'

const { bench } = await openBench(t)

t.test(
  'the console is measured: how soon it is painted, and what ten open ones cost',
  { skip: missing('chromium') },
  async (t) => {
    const file = join(t.testdir(), 'console.json')
    const { code, stderr } = await bench('console', '--seconds', '2', '--json', file)
    t.equal(code, 0, 'exit code', { stderr })
    const times = { p50_ms: Number, worst_ms: Number }
    const rates = { rate: Number, p50_ms: Number, p99_ms: Number }
    t.match(JSON.parse(await readFile(file, 'utf8')), [
      { name: 'console form', ...times },
      { name: 'console first page', ...times },
      { name: 'console reloaded', ...times },
      { name: 'console overview closed', ...rates, ratios: { closed: 1 } },
      { name: 'console overview open', ...rates, ratios: { closed: Number } },
      { name: 'console live closed', ...rates, ratios: { closed: 1 } },
      { name: 'console live open', ...rates, ratios: { closed: Number } },
    ])
    const responses = (way: string) =>
      Number(stderr.match(new RegExp(`round 1 console ${way}: .* (\\d+) responses`))?.[1])
    t.equal(responses('overview closed'), 0)
    t.ok(responses('overview open') > 0, 'the open pages ask')
    t.ok(responses('live open') >= 10, 'each open page follows the feed')
  },
)
