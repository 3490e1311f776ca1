import { randomInt } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Command, Option } from 'commander'
import { explain } from '../../src/lib/explain.ts'
import { LOCAL_FOLDER } from '../../src/lib/local-folder.ts'
import { FAULTS } from './faults.ts'
import { runModel, SERVER_SETTINGS } from './model/run.ts'
import { openPostgres } from './postgres.ts'
import { toMarkdown, toTable } from './report.ts'
import { complaintsOf, type Result, runFault } from './run.ts'
import { stopServers } from './server.ts'

const FOLDER = join(LOCAL_FOLDER, 'durability')

/** Length of a round of the model: long enough for faults to overlap, short enough for a person to read its history. */
const ROUND_SECONDS = 20

const program = new Command('durability')
  .description(
    'Breaks real processes while clients store records and readers follow the feed. Then it compares all responses with what ' +
      'is stored. It starts its own API, its own PostgreSQL with fsync on, and a proxy between them, all on loopback.',
  )
  .option('--quick', 'run the short form of each fault', false)
  .option('--markdown', 'print the table as Markdown', false)
  .option('--json <file>', 'also write the results to this file')
  .addOption(new Option('--only <name...>', 'run only these faults').choices(FAULTS.map(({ name }) => name)))
  .option(
    '--model',
    'run the model test instead: random requests to two instances during random faults, checked against a model',
    false,
  )
  .addOption(new Option('--minutes <n>', 'how long the model test runs').default(5).argParser(Number))
  .addOption(new Option('--seed <n>', 'seed of the model test (default: a random one)').argParser(Number))

interface Options {
  quick: boolean
  markdown: boolean
  json?: string
  only?: string[]
  model: boolean
  minutes: number
  seed?: number
}

// Stopping the servers makes the running fault fail, so the run ends through its finally blocks.
let interrupted = false
const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    interrupted = true
    stop.abort()
    void stopServers()
  })
}

const options: Options = program.parse().opts()
const running = options.model ? model(options) : main(options)
running.catch((error) => {
  console.error(interrupted ? 'durability: interrupted.' : `durability: ${explain(error)}.`)
  process.exitCode = 1
})

async function main({ quick, markdown, json, only }: Options): Promise<void> {
  const faults = FAULTS.filter(({ name }) => only?.includes(name) ?? true)
  const results: Result[] = []
  const postgres = await openPostgres(FOLDER)
  try {
    for (const fault of faults) {
      process.stderr.write(`${quick ? fault.quickTitle : fault.title} …`)
      const own = fault.open === undefined ? postgres : await fault.open(FOLDER)
      if (own === undefined) {
        process.stderr.write(' not possible on this machine\n')
        continue
      }
      const result = await runFault(fault, { postgres: own, folder: FOLDER, quick }).finally(
        () => own !== postgres && own.close(),
      )
      results.push(result)
      const complaints = complaintsOf(result)
      const note = result.note === undefined ? '' : ` (${result.note})`
      process.stderr.write(` ${complaints.length === 0 ? 'passed' : complaints.join(', ')}${note}\n`)
      if (complaints.length > 0) process.stderr.write(`${result.examples.map((line) => `  ${line}\n`).join('')}`)
    }
  } finally {
    await stopServers()
    await postgres.close()
  }

  console.log(markdown ? toMarkdown(results) : toTable(results))
  if (json !== undefined) await writeFile(json, `${JSON.stringify(results, null, 2)}\n`)
  const failed = results.filter((result) => complaintsOf(result).length > 0)
  if (failed.length > 0) throw new Error(`These faults failed: ${failed.map(({ name }) => name).join(', ')}`)
}

async function model({ minutes, seed = randomInt(2 ** 32) }: Options): Promise<void> {
  const postgres = await openPostgres(FOLDER, SERVER_SETTINGS)
  try {
    const result = await runModel({
      ...{ postgres, folder: FOLDER, seed, seconds: minutes * 60, roundSeconds: ROUND_SECONDS },
      stop: stop.signal,
      onLine: (line) => console.log(line),
    })
    console.log(JSON.stringify({ ...result, findings: result.findings.length }))
    if (result.findings.length > 0) throw new Error(`The model test has findings; the seed is ${seed}`)
  } finally {
    await stopServers()
    await postgres.close()
  }
}
