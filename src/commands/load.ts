import { stat } from 'node:fs/promises'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { DEFAULT_DELIMITER } from '../client/csv.ts'
import type { Mapping } from '../client/csv-mapping.ts'
import { type FileFormatName, FORMAT_NAMES, type Input, openInput } from '../client/input.ts'
import { findKey } from '../client/key.ts'
import { count } from '../client/progress.ts'
import { openRejectedLines, reasonsOf } from '../client/rejected-lines.ts'
import { checkReachable, type Server, urlOption } from '../client/server.ts'
import { storeInputs } from '../client/store-inputs.ts'
import { toTable } from '../client/table.ts'
import { Tally } from '../client/tally.ts'
import { explain } from '../lib/explain.ts'
import { onSignals } from './signals.ts'

interface Options {
  url: string
  format?: FileFormatName
  connections: number
  map?: Map<string, string>
  set?: Map<string, string>
  json?: Set<string>
  delimiter: string
  rejected?: string
}

const HELP = `
The API key is SLUICE_KEY, or else the key that npm start created. It needs the scope ingest.

The file name decides the format, unless --format does. .gz or .zst may follow (orders.csv.gz).
  ndjson  one record per line; also used for all other names
  json    an array of records, a page of GET /v1/records, or records one after the other; one record is in memory at a time
  csv     a header, then one record per row. The columns source, type, id, time, subject, dataschema and datacontenttype
          are these attributes, unless --map or --set says otherwise. Every other column is a member of data. Cells are
          text, also 12.50 and true, except in the columns named with --json. Files of sluice export need no options.
          A header that may have been read wrongly, such as a single column that contains another delimiter, ends the run.

Loading the same input again stores nothing twice. Records are identified by (source, id). A record without an id gets
one that depends on its line number and the lines around it. So if an input has records without ids and was loaded in
part, do not edit it: write the rejected lines to a file with --rejected, correct them, and load that file.

  sluice load orders.ndjson
  sluice load orders.csv --set source=shop --set type=order.placed --map id=number --json total
  zcat logs/*.gz | sluice load - --rejected rejected.ndjson

The exit code is 0 if every record is stored (created, or a duplicate of a stored record), otherwise 1.`

/** Arguments and options of `sluice load`. */
export function defineLoad(command: Command): void {
  command
    .argument('<file...>', 'the files to load; - is stdin')
    .addOption(urlOption())
    .addOption(new Option('--format <format>', 'format of all files, whatever their names').choices(FORMAT_NAMES))
    .option('--connections <n>', 'number of requests at the same time', connections, 4)
    .option('--rejected <file>', 'write the rejected lines to this file, unchanged, and the reasons to <file>.reasons')
    .option('--map <attribute=column>', 'CSV: read an attribute from this column; repeatable', pair)
    .option('--set <attribute=text>', 'CSV: give an attribute this value in all records; repeatable', pair)
    .option('--json <column>', 'CSV: the cells of this column are JSON, such as numbers; repeatable', add)
    .option('--delimiter <character>', 'CSV: the character between cells', delimiter, DEFAULT_DELIMITER)
    .addHelpText('after', HELP)
    .action(runLoad)
}

/** Stores the records of files. @throws Error with a sentence if not every record is stored */
async function runLoad(names: string[], options: Options): Promise<void> {
  const { map = new Map(), set = new Map(), json = new Set() } = options
  const mapping: Mapping = { map, set, json }
  const inputs = await Promise.all(names.map((name) => openInput(name, { ...options, mapping })))
  await checkTogether(inputs, options)
  const server: Server = { url: options.url, token: (await findKey()).token }
  await checkReachable(server.url)

  const rejected = await openRejectedLines(options.rejected)
  const tally = new Tally()
  const stop = new AbortController()
  let interrupted = false
  onSignals(
    ['SIGINT', 'SIGTERM'],
    () => {
      interrupted = true
      stop.abort('Stopping after the current requests. A second signal stops the command at once')
    },
    () => process.exit(1),
  )
  const begin = performance.now()
  const failure = await storeInputs(inputs, server, { connections: options.connections, stop, rejected, tally })
  const seconds = (performance.now() - begin) / 1000
  await rejected.close()

  for (const reason of rejected.shown) console.error(reason)
  // For example, the program before a pipe failed. That is not an error here, but must not go unnoticed.
  if (failure === undefined && !interrupted)
    for (const { name, records } of inputs) if (records === 0) console.error(`${name}: 0 records`)
  console.log(summarize(tally, seconds))
  if (tally.possiblyCreated > 0) console.error(`${perhaps(tally.possiblyCreated)}.`)
  if (failure !== undefined || interrupted) throw new Error(describeEnd(failure, tally))
  if (tally.notStored > 0) throw new Error(describeNotStored(tally, options.rejected))
}

/** Checks that would otherwise fail too late. */
async function checkTogether(
  inputs: readonly Input[],
  { rejected, map, set, json, delimiter }: Options,
): Promise<void> {
  const formats = new Set(inputs.map(({ formatName }) => formatName))
  if (
    !formats.has('csv') &&
    (map !== undefined || set !== undefined || json !== undefined || delimiter !== DEFAULT_DELIMITER)
  )
    throw new Error('--map, --set, --json and --delimiter are for CSV, but no file is CSV. See --format')
  if (inputs.filter(({ stats }) => stats === undefined).length > 1) throw new Error('- can be loaded only once')
  if (rejected === undefined) return
  if (inputs.length > 1 && (formats.size > 1 || formats.has('csv')))
    throw new Error(
      '--rejected can only contain lines of one format and with one CSV header. Load the files one by one',
    )
  for (const path of [rejected, reasonsOf(rejected)]) {
    const there = await stat(path).catch(() => undefined)
    const same = inputs.find(
      ({ stats }) => there?.ino === stats?.ino && there?.dev === stats?.dev && stats !== undefined,
    )
    if (same !== undefined) throw new Error(`--rejected would overwrite ${same.name}, which is an input`)
  }
}

function summarize(tally: Tally, seconds: number): string {
  return toTable({
    ...tally.counts,
    lines: tally.lines,
    seconds: Math.round(seconds * 10) / 10,
    'records/s': Math.round(tally.records / seconds),
  })
}

/** Why the run ended early, and what to do. */
function describeEnd(failure: unknown, { reached }: Tally): string {
  const why = failure === undefined ? 'Interrupted' : explain(failure)
  if (reached === undefined) return why
  const progress = `Everything up to line ${count(reached.line)} of ${reached.name} is processed`
  return `${why}. ${progress}. To continue, run the same command again. Records that are stored will be duplicates`
}

function describeNotStored({ notStored, unlisted }: Tally, rejected: string | undefined): string {
  const where = rejected === undefined ? '' : `: they are in ${rejected}, and the reasons in ${reasonsOf(rejected)}`
  const rest = unlisted === 0 ? '' : `. The server counted ${count(unlisted)} of them without listing them`
  return `${count(notStored)} records were not stored${where}${rest}`
}

const perhaps = (duplicates: number) =>
  `This run may have created up to ${count(duplicates)} of the duplicates, because a connection broke before the response`

function connections(text: string): number {
  const value = Number(text)
  // The server reserves memory for each connection, and refuses too many.
  if (!Number.isInteger(value) || value < 1 || value > 16) throw new InvalidArgumentError('It must be from 1 to 16.')
  return value
}

const ATTRIBUTES = ['source', 'type', 'id', 'time', 'subject', 'dataschema', 'datacontenttype', 'data', 'data_base64']

function pair(text: string, before: Map<string, string> = new Map()): Map<string, string> {
  const at = text.indexOf('=')
  const name = text.slice(0, Math.max(at, 0))
  // CloudEvents 1.0.2, section 3.1: the name of an extension attribute.
  if (!ATTRIBUTES.includes(name) && !/^[a-z0-9]+$/.test(name))
    throw new InvalidArgumentError(`It must be an attribute, = and a text. Attributes are ${ATTRIBUTES.join(', ')}.`)
  return new Map([...before, [name, text.slice(at + 1)]])
}

const add = (text: string, before: Set<string> = new Set()) => new Set([...before, text])

function delimiter(text: string): string {
  if (text === '' || /["\r\n]/.test(text))
    throw new InvalidArgumentError('It must be a character other than a quote or a line break.')
  return text
}
