import { Command, InvalidArgumentError, Option } from 'commander'
import { explain } from '../src/lib/explain.ts'
import { openApi } from './persistence/api.ts'
import { openCluster } from './persistence/cluster.ts'
import { openLocal } from './persistence/local.ts'
import { verifyPersistence } from './persistence/verify.ts'

const program = new Command('verify-persistence')
  .description(
    'Restarts PostgreSQL while records are being stored, and checks that every acknowledged record is still stored.',
  )
  .addOption(new Option('--url <url>', 'URL of the API').env('SLUICE_URL').default('http://127.0.0.1:3000'))
  .addOption(
    new Option('--records <n>', 'records to store before the restart').default(10_000).argParser((text) => {
      if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError('It must be a whole number above 0.')
      return Number(text)
    }),
  )
  .addOption(new Option('--restart <what>', 'restart PostgreSQL by deleting its pod').choices(['pod']))
  .addOption(
    new Option(
      '--restart-command <command>',
      'restart it with this command instead, for example "sudo systemctl restart k3s"',
    ).conflicts('restart'),
  )
  .addOption(new Option('--namespace <name>', 'namespace of PostgreSQL').default('sluice'))
  .addOption(
    new Option(
      '--local',
      'start an embedded PostgreSQL and an API, and restart that PostgreSQL with kill -9',
    ).conflicts(['restart', 'restartCommand', 'url']),
  )
  .addHelpText('after', '\nSLUICE_KEY is the API key. It needs the scopes ingest and read.')

interface Options {
  url: string
  records: number
  restart?: 'pod'
  restartCommand?: string
  namespace: string
  local?: boolean
}

main(program.parse().opts()).catch((error) => {
  console.error(`verify-persistence: ${explain(error)}.`)
  process.exitCode = 2
})

/** Exit code: 0 if all acknowledged records are stored unchanged, 1 if not, 2 if the check failed. */
async function main(options: Options): Promise<void> {
  if (!options.local && options.restart === undefined && options.restartCommand === undefined) {
    throw new Error('Choose what to restart: --restart pod, --restart-command <command>, or --local')
  }
  const target = options.local ? await openLocal() : openCluster(options)
  try {
    const api = await openApi(target.url ?? options.url, target.key ?? keyFromEnvironment(), say)
    const { findings, complaints } = await verifyPersistence(api, target, options.records, say)
    console.table(findings)
    for (const complaint of complaints) console.error(`LOST: ${complaint}`)
    console.log(
      complaints.length === 0 ? 'All acknowledged records are stored unchanged.' : 'Records are missing or altered.',
    )
    process.exitCode = complaints.length === 0 ? 0 : 1
  } finally {
    await target.close()
  }
}

function say(line: string): void {
  console.error(`--- ${line}`)
}

function keyFromEnvironment(): string {
  const key = process.env.SLUICE_KEY
  if (!key) throw new Error('SLUICE_KEY is not set. Set it to a key with the scopes ingest and read')
  return key
}
