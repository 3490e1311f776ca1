import { Command, InvalidArgumentError, Option } from 'commander'
import { explain } from '../src/lib/explain.ts'
import { openApi } from './persistence/api.ts'
import { openCluster } from './persistence/cluster.ts'
import { openLocal } from './persistence/local.ts'
import { verifyPersistence } from './persistence/verify.ts'

const program = new Command('verify-persistence')
  .description('Restarts PostgreSQL while records are stored, and shows that every acknowledged one is still there.')
  .addOption(new Option('--url <url>', 'the API').env('SLUICE_URL').default('http://127.0.0.1:3000'))
  .addOption(
    new Option('--records <n>', 'records to store before the restart').default(10_000).argParser((text) => {
      if (!/^[1-9]\d*$/.test(text)) throw new InvalidArgumentError('It must be a whole number above nought.')
      return Number(text)
    }),
  )
  .addOption(new Option('--restart <what>', 'delete the pod of PostgreSQL').choices(['pod']))
  .addOption(
    new Option('--restart-command <command>', 'run this instead: sudo systemctl restart k3s').conflicts('restart'),
  )
  .addOption(new Option('--namespace <name>', 'where PostgreSQL runs').default('sluice'))
  .addOption(
    new Option('--local', 'an embedded PostgreSQL and a server of its own, and kill -9').conflicts([
      'restart',
      'restartCommand',
      'url',
    ]),
  )
  .addHelpText('after', '\nThe API key, with the scopes ingest and read, is SLUICE_KEY.')

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

/** Exit code: 0 all is there, 1 something is not, 2 it could not be told. */
async function main(options: Options): Promise<void> {
  if (!options.local && options.restart === undefined && options.restartCommand === undefined) {
    throw new Error('Say what to restart: --restart pod, --restart-command <command>, or --local')
  }
  const target = options.local ? await openLocal() : openCluster(options)
  try {
    const api = openApi(target.url ?? options.url, target.key ?? keyFromEnvironment())
    const { findings, complaints } = await verifyPersistence(api, target, options.records)
    console.table(findings)
    for (const complaint of complaints) console.error(`NOT KEPT: ${complaint}`)
    console.log(complaints.length === 0 ? 'Everything that was acknowledged is there.' : 'Something is not there.')
    process.exitCode = complaints.length === 0 ? 0 : 1
  } finally {
    await target.close()
  }
}

function keyFromEnvironment(): string {
  const key = process.env.SLUICE_KEY
  if (!key) throw new Error('SLUICE_KEY is not set')
  return key
}
