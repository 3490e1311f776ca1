import type { Command } from 'commander'
import { FORMAT_NAMES } from '../client/input.ts'
import { count } from '../client/progress.ts'
import { openRejectedLines, reasonsOf } from '../client/rejected-lines.ts'
import { urlOption } from '../client/server.ts'
import { storeInputs } from '../client/store-inputs.ts'
import { toTable } from '../client/table.ts'
import { Tally } from '../client/tally.ts'
import { TOKEN_HELP } from '../client/times/patterns.ts'
import { explain } from '../lib/explain.ts'
import { printable } from '../lib/printable.ts'
import { prepareLoad } from './load-checks.ts'
import type { RawOptions } from './load-options.ts'
import { onSignals } from './signals.ts'

const HELP = `
The API key is SLUICE_KEY, or else the key that npm start created. It needs the scope ingest.

The file name decides the format, unless --format does. .gz or .zst may follow (orders.csv.gz).
  ndjson  one object per line; also used for all other names
  json    an array of objects, a page of GET /v1/records, or objects one after the other; one is in memory at a time
  csv     a header, then one record per row. Cells are text, also 12.50 and true, except in the columns of --json and
          --number. A header that may have been read wrongly, such as a single column that contains another delimiter,
          ends the run
  tsv     the same, with tabs between the cells

By default, each object is a record with source and type. With --map, or with --set of source or type, each object
becomes data, like a row of CSV: the columns or members source, type, id, time, subject, dataschema and datacontenttype
are these attributes, unless --map or --set says otherwise, and every other one is a member of data. Files of sluice
export need no options. --set of another name adds an attribute to all records: with --set batch=NAME, the load can be undone.

A time must be RFC 3339 (2026-01-31T12:00:00Z), unless --time-format says how it is written:
  iso      2012-01-01, 2012-01-01 12:00:00+00, 20120101T120000Z, and other forms of ISO 8601. A date alone is midnight
           UTC
  seconds, milliseconds, microseconds, nanoseconds
           a number since 1970, also with a fraction
  pattern  such as 'DD.MM.YYYY HH:mm', of
           ${TOKEN_HELP}
A date with a time of day but without an offset from UTC needs --time-zone, such as Europe/Berlin or UTC.

Loading the same input again stores nothing twice. Records are identified by (source, id). A record without an id gets
one that depends on its line number and the lines around it. So if an input has records without ids and was loaded in
part, do not edit it: write the rejected lines to a file with --rejected, correct them, and load that file.

  sluice load orders.ndjson
  sluice load people.json --set source=crm --set type=person --map id=number --set batch=import-7
  sluice load orders.csv --set source=shop --set type=order.placed --map id=number --number total
  sluice load umsatz.csv --delimiter ';' --number betrag --decimal , --map time=datum --time-format DD.MM.YYYY …
  zcat logs/*.gz | sluice load - --rejected rejected.ndjson

The exit code is 0 if every record is stored (created, or a duplicate of a stored record), otherwise 1.`

/** Arguments and options of `sluice load`. */
export function defineLoad(command: Command): void {
  command
    .argument('<file...>', 'the files to load; - is stdin')
    .addOption(urlOption())
    .option('--format <format>', `format of all files, whatever their names: ${FORMAT_NAMES.join(', ')}`)
    .option('--connections <n>', 'number of requests at the same time', '4')
    .option('--rejected <file>', 'write the rejected lines to this file, unchanged, and the reasons to <file>.reasons')
    .option(
      '--map <attribute=name>',
      'read an attribute from this column or member, or with /a/b from a nested member (JSON Pointer); repeatable',
      add,
    )
    .option('--set <attribute=text>', 'give an attribute this value in all records; repeatable', add)
    .option('--time-format <format>', 'how the attribute time is written; see below')
    .option('--time-zone <name>', 'time zone of times without an offset from UTC, such as Europe/Berlin')
    .option('--number <column>', 'CSV: the cells of this column are numbers, also .5 and +1; repeatable', add)
    .option('--decimal <separator>', 'CSV: the decimal separator of --number; default: a point')
    .option('--json <column>', 'CSV: the cells of this column are JSON; repeatable', add)
    .option('--null <text>', 'CSV: cells with exactly this text have no value, such as N/A; repeatable', add)
    .option('--delimiter <character>', 'CSV: the character between cells, or the word tab; default: a comma')
    .addHelpText('after', HELP)
    .action(runLoad)
}

/** Stores the records of files. @throws Error with a sentence if not every record is stored */
async function runLoad(names: string[], raw: RawOptions): Promise<void> {
  const stop = new AbortController()
  const { inputs, server, connections } = await prepareLoad(names, raw, stop.signal).catch((error) => {
    // Otherwise, a pipe that is still open would keep the process alive.
    stop.abort()
    throw error
  })
  const rejected = await openRejectedLines(raw.rejected)
  const tally = new Tally()
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
  const failure = await storeInputs(inputs, server, { connections, stop, rejected, tally })
  const seconds = (performance.now() - begin) / 1000
  await rejected.close()

  for (const reason of rejected.shown) console.error(reason)
  // For example, the program before a pipe failed. That is not an error here, but must not go unnoticed.
  if (failure === undefined && !interrupted)
    for (const { name, records } of inputs) if (records === 0) console.error(`${printable(name)}: 0 records`)
  console.log(summarize(tally, seconds))
  if (tally.possiblyCreated > 0) console.error(`${perhaps(tally.possiblyCreated)}.`)
  if (failure !== undefined || interrupted) throw new Error(describeEnd(failure, tally))
  if (tally.notStored > 0) throw new Error(describeNotStored(tally, raw.rejected))
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

const add = (text: string, before: string[] = []) => [...before, text]
