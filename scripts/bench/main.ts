import { writeFile } from 'node:fs/promises'
import { Command, InvalidArgumentError, Option } from 'commander'
import { explain } from '../../src/lib/explain.ts'
import { openBenchDatabase } from './database.ts'
import { FLOODS } from './floods/floods.ts'
import { measureFloods } from './floods/measure.ts'
import { compareWithCopy } from './lines/compare.ts'
import { measureMemory } from './memory/measure.ts'
import { stopAll } from './processes.ts'
import { compareServers } from './requests/compare.ts'
import { compareWithRetention } from './retention/compare.ts'
import { type Measure, type Options, type Row, toTable } from './table.ts'

/** In the order in which they run. */
const MEASURES = {
  single: (run) => compareServers('single', run),
  batch: (run) => compareServers('batch', run),
  observability: (run) => compareServers('observability', run),
  lines: compareWithCopy,
  memory: measureMemory,
  retention: compareWithRetention,
  floods: measureFloods,
} satisfies Record<string, Measure>

const program = new Command('bench')
  .description(
    'single, batch: a server that stores nothing (limit), one insert a request (naive), and this program (ours), over 64 ' +
      'connections. observability: ours beside itself without metrics and log (unobserved). lines: NDJSON, sent once and once ' +
      'again, against COPY on one and on two connections. memory: the most that this program holds while NDJSON streams in ' +
      'and out. retention: single records while half of what is stored is removed, against the same without. floods: the memory of this ' +
      'program, and the latencies of a client with another key, while one key, or nobody with a key, sends far too much; ' +
      'POST and GET of one record. Uses ' +
      'DATABASE_URL, whose user must be allowed to make databases and to CHECKPOINT, in a database of its own, else an ' +
      'embedded PostgreSQL.',
  )
  .option('--rounds <n>', 'measurements of each, whose median is shown', positive, 3)
  .option('--seconds <n>', 'length of a measurement of single, batch, observability and retention', positive, 4)
  .option('--records <n>', 'lines of a measurement of lines', positive, 300_000)
  .option('--gib <n>', 'size of the NDJSON for memory', positive, 1)
  .option('--stored <n>', 'records that are there before retention removes half of them', positive, 2_000_000)
  .option('--flood-seconds <n>', 'length of a measurement of floods', positive, 10)
  .addOption(new Option('--floods <name...>', 'some of the floods').choices(Object.keys(FLOODS)))
  .addOption(new Option('--only <measure>', 'one of them').choices(Object.keys(MEASURES)))
  .option('--json <file>', 'write the tables there too')
  .option('--profile <folder>', 'write CPU profiles of our server there')

// Whoever waits for an answer of a process that was stopped fails, and so the run ends through its finally blocks.
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
  console.error(interrupted === undefined ? `bench: ${explain(error)}.` : `bench: ended by ${interrupted}.`)
  process.exitCode = 1
})

async function bench({ only, json, ...options }: Arguments): Promise<void> {
  const database = await openBenchDatabase()
  const rows: Row[] = []
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
