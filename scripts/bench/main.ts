import { writeFile } from 'node:fs/promises'
import { Command, InvalidArgumentError, Option } from 'commander'
import { explain } from '../../src/lib/explain.ts'
import { measureConsole } from './console/measure.ts'
import { openBenchDatabase } from './database.ts'
import { measureFeed } from './feed/measure.ts'
import { FLOODS } from './floods/floods.ts'
import { measureFloods } from './floods/measure.ts'
import { compareWithCopy } from './lines/compare.ts'
import { measureMemory } from './memory/measure.ts'
import { stopAll } from './processes.ts'
import { compareServers } from './requests/compare.ts'
import { compareWithRetention } from './retention/compare.ts'
import { measureBackfill } from './stats/backfill.ts'
import { measureStats } from './stats/measure.ts'
import { type Measure, type Options, type TableRow, toTable } from './table.ts'

/** In the order in which they run. */
const MEASURES = {
  single: (run) => compareServers('single', run),
  batch: (run) => compareServers('batch', run),
  observability: (run) => compareServers('observability', run),
  lines: compareWithCopy,
  memory: measureMemory,
  retention: compareWithRetention,
  floods: measureFloods,
  feed: measureFeed,
  stats: measureStats,
  backfill: measureBackfill,
  console: measureConsole,
} satisfies Record<string, Measure>

const program = new Command('bench')
  .description(
    'Runs these measurements. single, batch: Sluice (ours) against a server that stores nothing (limit) and one that does one ' +
      'INSERT per request (naive), over 64 connections. observability: ours against ours without metrics and log (unobserved). ' +
      'lines: NDJSON, sent twice, against COPY on one and on two connections. memory: the peak memory of Sluice while NDJSON ' +
      'streams in and out. retention: single records, with and without retention, which deletes half of the stored records. ' +
      'floods: the memory of Sluice during several attacks, and the latencies of a client with another key. feed: how soon followers ' +
      'get a record, what waiting followers cost, the whole feed against COPY, and the memory with 1,000 followers. stats: single records and lines ' +
      'with and without rollups, their greatest lag (worst ms), and how long the statistics of a year by hour take. backfill: single records ' +
      'while old records are counted in the background. console: how soon the console is painted in Chromium, and single records ' +
      'while ten are open. The database is ' +
      'created on the server of DATABASE_URL, whose user needs the rights to create databases and to run CHECKPOINT, or else ' +
      'on an embedded PostgreSQL.',
  )
  .option('--rounds <n>', 'rounds of each measurement; the median is shown', positive, 3)
  .option(
    '--seconds <n>',
    'length of each round of single, batch, observability, retention, feed, stats, backfill and console',
    positive,
    4,
  )
  .option(
    '--records <n>',
    'records in each round of lines and stats (default: 300000), and of feed (1000000)',
    positive,
  )
  .option('--gib <n>', 'size of the NDJSON for memory', positive, 1)
  .option('--stored <n>', 'stored records, of which retention deletes half', positive, 2_000_000)
  .option('--old-records <n>', 'old records that backfill counts', positive, 10_000_000)
  .option('--followers <n>', 'followers of feed that wait, and that get every record', positive, 1000)
  .option('--flood-seconds <n>', 'length of each flood', positive, 10)
  .addOption(new Option('--floods <name...>', 'run only these floods').choices(Object.keys(FLOODS)))
  .addOption(new Option('--only <measure>', 'run only this measurement').choices(Object.keys(MEASURES)))
  .option('--json <file>', 'also write the tables to this file')
  .option('--profile <folder>', 'write CPU profiles of Sluice to this folder')

// Stopping the processes makes the running measurement fail, so the run ends through its finally blocks.
let interrupted: NodeJS.Signals | undefined
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    interrupted = signal
    void stopAll()
  })
}

interface Arguments extends Options {
  only?: keyof typeof MEASURES
  json?: string
}

bench(program.parse().opts<Arguments>()).catch((error) => {
  console.error(interrupted === undefined ? `bench: ${explain(error)}.` : `bench: interrupted by ${interrupted}.`)
  process.exitCode = 1
})

async function bench({ only, json, ...options }: Arguments): Promise<void> {
  const database = await openBenchDatabase()
  const rows: TableRow[] = []
  const faults: string[] = []
  try {
    for (const measure of only === undefined ? Object.values(MEASURES) : [MEASURES[only]]) {
      const outcome = await measure({ database, options })
      console.log(`${toTable(outcome.rows)}\n`)
      rows.push(...outcome.rows)
      faults.push(...outcome.faults)
    }
    console.log(await database.describe())
    if (json !== undefined) await writeFile(json, `${JSON.stringify(rows, null, 2)}\n`)
    if (faults.length > 0) throw new Error(faults.join('; '))
  } finally {
    await stopAll()
    await database.drop()
  }
}

function positive(text: string): number {
  const value = Number(text)
  if (!(value > 0)) throw new InvalidArgumentError('It must be a number above 0.')
  return value
}
