#!/usr/bin/env node
import { Command, Option } from 'commander'
import { explain } from './lib/explain.ts'
import { printable } from './lib/printable.ts'
import { VERSION } from './lib/version.ts'

// A command's code is loaded only when it runs: `keys list` needs no HTTP server.
const program = new Command('sluice')
  .description('A lightweight, durable ingestion API for PostgreSQL.')
  .version(VERSION)

program
  .command('serve')
  .description('serve the API; every setting is an environment variable')
  .option('--migrate', 'first bring the schema up to date and make sure that an API key exists', false)

program
  .command('migrate')
  .description('bring the schema up to date; DATABASE_URL logs in as the owner of the database')
  .action(async () => (await import('./commands/migrate.ts')).runMigrate())

program
  .command('bootstrap')
  .description('create the roles and the database, or set changed passwords; DATABASE_URL logs in as the superuser')
  .option(
    '--key',
    'instead, make sure that SLUICE_BOOTSTRAP_KEY is an API key; DATABASE_URL logs in as the owner of the database',
    false,
  )
  .action(async (options) => (await import('./commands/bootstrap.ts')).runBootstrap(options))

program
  .command('maintain')
  .description(
    'delete records as the retention policies say; DATABASE_URL logs in as a role that may delete, such as sluice_maintenance',
  )
  .option('--policies <file>', 'a JSON file; overrides the setting RETENTION_POLICIES')
  .option('--dry-run', 'show what would be deleted, and delete nothing', false)
  .action(async (options) => (await import('./commands/maintain.ts')).runMaintain(options))

program
  .command('epoch')
  .description('epochs of the feed; see "Epochs" in k8s/components/backup/README.md')
  .command('begin')
  .description(
    'after a restore: make new records sort after all cursors that consumers hold; DATABASE_URL logs in as the owner of the database',
  )
  .option(
    '--after <cursor>',
    'a cursor that was refused with 409 offset_ahead; without it, the feed jumps half a year ahead',
  )
  .action(async (options) => (await import('./commands/epoch.ts')).runBegin(options))

const keys = program.command('keys').description('create, list and revoke API keys')

keys
  .command('create')
  .description('create a key and print it; it is shown only once')
  .requiredOption('--name <name>', 'what the key is for')
  .requiredOption('--scope <scope...>', 'ingest, read, admin')
  .addOption(
    new Option(
      '--source-prefix <prefix...>',
      'sources that the key may use: "shop" allows shop and every source that continues it with /, : or .; "shop*" allows every source that starts with shop',
    ).default([], 'all sources'),
  )
  .option('--rate <records>', 'maximum number of records per second that each instance accepts from the key')
  .option('--expires <when>', 'a time (2027-01-31T12:00:00Z) or a duration (90d, 12h)')
  .action(async (options) => (await import('./commands/keys.ts')).createKey(options))

keys
  .command('list')
  .description('list all keys without their secrets')
  .option('--json', 'as JSON')
  .action(async (options) => (await import('./commands/keys.ts')).listKeys(options))

keys
  .command('revoke <id>')
  .description('revoke a key; every instance refuses it within seconds')
  .action(async (id) => (await import('./commands/keys.ts')).revoke(id))

const backups = program.command('backups').description('keep copies of backups in the bucket of BACKUP_BUCKET_URL')

backups
  .command('upload <folder>')
  .description('upload the backups in a folder that are not in the bucket yet')
  .action(async (folder) => (await import('./commands/backups.ts')).runUpload(folder))

backups
  .command('list')
  .description('list the backups in the bucket, newest last')
  .action(async () => (await import('./commands/backups.ts')).runList())

backups
  .command('download <name> <folder>')
  .description('download a backup into a folder')
  .action(async (name, folder) => (await import('./commands/backups.ts')).runDownload(name, folder))

program.command('load').description('send records from files or stdin to a server')

program.command('export').description('write records from a server to a file or stdout')

program.command('tail').description('follow the feed of a server: print records as they are committed')

program.command('stats').description('show how many records came in over time')

program.command('status').description('show whether everything is well')

// Otherwise, a command whose output is lost would succeed: `console` ignores these errors. A reader that wants no more, such as
// `head`, is no error. `export` and `tail` have their own listeners.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE' || process.stdout.listenerCount('error') > 1) return
  console.error(`sluice: cannot write to stdout: ${error.message}.`)
  process.exitCode = 1
})

program.hook('preSubcommand', async (_program, command) => {
  // The log opens first: warnings while the rest is loaded belong in it.
  if (command.name() === 'serve') {
    const logger = (await import('./commands/serve-log.ts')).openServeLog(command)
    command.action(async (options) => (await import('./commands/serve.ts')).runServe(logger, options))
  }
  // These have many options, defined beside their code.
  if (command.name() === 'load') (await import('./commands/load.ts')).defineLoad(command)
  if (command.name() === 'export') (await import('./commands/export.ts')).defineExport(command)
  if (command.name() === 'tail') (await import('./commands/tail.ts')).defineTail(command)
  if (command.name() === 'stats') (await import('./commands/stats.ts')).defineStats(command)
  if (command.name() === 'status') (await import('./commands/status.ts')).defineStatus(command)
})

program.parseAsync().catch((error) => {
  // A message may contain what a file, a server or a database says, and several lines.
  const lines = explain(error).split('\n').map(printable)
  console.error(`sluice: ${lines.join('\n')}${lines.length === 1 ? '.' : ''}`)
  process.exitCode = 1
})
