import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Command, Option } from 'commander'
import { explain } from '../../src/lib/explain.ts'
import { LOCAL_FOLDER } from '../../src/lib/local-folder.ts'
import { FAULTS } from './faults.ts'
import { openPostgres } from './postgres.ts'
import { toMarkdown, toTable } from './report.ts'
import { complaintsOf, type Result, runFault } from './run.ts'
import { stopServers } from './server.ts'

const FOLDER = join(LOCAL_FOLDER, 'durability')

const program = new Command('durability')
  .description(
    'Breaks real processes while clients store records, and compares what they were told with what is stored then: ' +
      'an API, a PostgreSQL with fsync, and a proxy between them, all on loopback and all of this run.',
  )
  .option('--quick', 'shorter forms', false)
  .option('--markdown', 'print the table as Markdown', false)
  .option('--json <file>', 'write the results there too')
  .addOption(new Option('--only <name...>', 'some of the faults').choices(FAULTS.map(({ name }) => name)))

interface Options {
  quick: boolean
  markdown: boolean
  json?: string
  only?: string[]
}

// Who waits for a server that was stopped fails, and so the run ends through its finally blocks.
let interrupted = false
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    interrupted = true
    void stopServers()
  })
}

main(program.parse().opts()).catch((error) => {
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
