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

/** Of the model: as long as faults have time to meet, and as what happened can still be read. */
const ROUND_SECONDS = 20

const program = new Command('durability')
  .description(
    'Breaks real processes while clients store records and a reader follows, and compares all answers with what is stored: ' +
      'an API, a PostgreSQL with fsync, and a proxy between them, all on loopback and all of this run.',
  )
  .option('--quick', 'shorter forms', false)
  .option('--markdown', 'print the table as Markdown', false)
  .option('--json <file>', 'write the results there too')
  .addOption(new Option('--only <name...>', 'some of the faults').choices(FAULTS.map(({ name }) => name)))
  .option('--model', 'instead: random requests against two instances amid random faults, compared with a model', false)
  .addOption(new Option('--minutes <n>', 'how long the model runs').default(5).argParser(Number))
  .addOption(new Option('--seed <n>', 'what the model decides by; absent: by chance').argParser(Number))

interface Options {
  quick: boolean
  markdown: boolean
  json?: string
  only?: string[]
  model: boolean
  minutes: number
  seed?: number
}

// Who waits for a server that was stopped fails, and so the run ends through its finally blocks.
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
      process.stderr.write(` ${complaints.length === 0 ? 'kept' : complaints.join(', ')}${note}\n`)
      if (complaints.length > 0) process.stderr.write(`${result.examples.map((line) => `  ${line}\n`).join('')}`)
    }
  } finally {
    await stopServers()
    await postgres.close()
  }

  console.log(markdown ? toMarkdown(results) : toTable(results))
  if (json !== undefined) await writeFile(json, `${JSON.stringify(results, null, 2)}\n`)
  const failed = results.filter((result) => complaintsOf(result).length > 0)
  if (failed.length > 0) throw new Error(`The bar was not met by ${failed.map(({ name }) => name).join(', ')}`)
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
    if (result.findings.length > 0) throw new Error(`The model has findings; seed ${seed}`)
  } finally {
    await stopServers()
    await postgres.close()
  }
}
