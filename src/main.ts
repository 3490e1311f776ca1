#!/usr/bin/env node
import { Command } from 'commander'
import { explain } from './lib/explain.ts'
import { VERSION } from './lib/version.ts'

// Each command's code is loaded when it is run: `keys list` needs no HTTP server.
const program = new Command('sluice')
  .description('A lightweight, durable ingestion API for PostgreSQL.')
  .version(VERSION)

program
  .command('serve')
  .description('serve the API; every setting is an environment variable')
  .option('--migrate', 'first bring the schema up to date and make sure there is a key', false)

program
  .command('migrate')
  .description('bring the schema up to date; DATABASE_URL is the owner of the database')
  .action(async () => (await import('./commands/migrate.ts')).runMigrate())

program
  .command('bootstrap')
  .description('make the roles and the database, or set changed passwords; DATABASE_URL is the superuser')
  .option(
    '--key',
    'instead make sure that SLUICE_BOOTSTRAP_KEY is a key; DATABASE_URL is the owner of the database',
    false,
  )
  .action(async (options) => (await import('./commands/bootstrap.ts')).runBootstrap(options))

program
  .command('maintain')
  .description(
    'remove the records that the policies of retention say; DATABASE_URL is a role that may, sluice_maintenance',
  )
  .option('--policies <file>', 'JSON; instead of the setting RETENTION_POLICIES')
  .option('--dry-run', 'say what would be removed, and change nothing', false)
  .action(async (options) => (await import('./commands/maintain.ts')).runMaintain(options))

program
  .command('epoch')
  .description('epochs of the feed; see "Epochs" in k8s/components/backup/README.md')
  .command('begin')
  .description(
    'after a restore: make new records sort after all cursors that consumers hold; DATABASE_URL is the owner of the database',
  )
  .option(
    '--after <cursor>',
    'a cursor that was refused as ahead (409 cursor_ahead); without it, the feed leaps half a year ahead',
  )
  .action(async (options) => (await import('./commands/epoch.ts')).runBegin(options))

const keys = program.command('keys').description('make, list and revoke API keys')

keys
  .command('create')
  .description('make a key and print it, for the only time')
  .requiredOption('--name <name>', 'what it is for')
  .requiredOption('--scope <scope...>', 'ingest, read, admin')
  .option(
    '--source-prefix <prefix...>',
    'sources that it may use: shop and what follows it after /, : or .; or shop* for all that start so',
    [],
  )
  .option('--rate <records>', 'how many records a second each instance takes from it')
  .option('--expires <when>', 'a time (2027-01-31T12:00:00Z) or a span (90d, 12h)')
  .action(async (options) => (await import('./commands/keys.ts')).createKey(options))

keys
  .command('list')
  .description('list all keys, without their secrets')
  .option('--json', 'as JSON')
  .action(async (options) => (await import('./commands/keys.ts')).listKeys(options))

keys
  .command('revoke <id>')
  .description('revoke a key; every instance refuses it within seconds')
  .action(async (id) => (await import('./commands/keys.ts')).revoke(id))

const backups = program.command('backups').description('keep copies of backups in the bucket of BACKUP_BUCKET_URL')

backups
  .command('upload <folder>')
  .description('store the backups in a folder that the bucket does not have')
  .action(async (folder) => (await import('./commands/backups.ts')).runUpload(folder))

backups
  .command('list')
  .description('list the backups in the bucket, newest last')
  .action(async () => (await import('./commands/backups.ts')).runList())

backups
  .command('download <name> <folder>')
  .description('fetch a backup into a folder')
  .action(async (name, folder) => (await import('./commands/backups.ts')).runDownload(name, folder))

program.command('load').description('store the records in files, or from stdin, on a server')

program.command('export').description('write the records of a server to a file, or to stdout')

program.hook('preSubcommand', async (_program, command) => {
  // Its log comes first: what the rest has to say while it is loaded belongs into it.
  if (command.name() === 'serve') {
    const logger = (await import('./commands/serve-log.ts')).openServeLog(command)
    command.action(async (options) => (await import('./commands/serve.ts')).runServe(logger, options))
  }
  // Their options are many, and are defined beside what they do.
  if (command.name() === 'load') (await import('./commands/load.ts')).defineLoad(command)
  if (command.name() === 'export') (await import('./commands/export.ts')).defineExport(command)
})

program.parseAsync().catch((error) => {
  console.error(`sluice: ${explain(error)}.`)
  process.exitCode = 1
})
