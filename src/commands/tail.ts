import { type Command, InvalidArgumentError } from 'commander'
import { type FeedFilter, followFeed } from '../client/feed.ts'
import { readStart } from '../client/feed-start.ts'
import { findKey } from '../client/key.ts'
import { checkReachable, Refused, type Server, urlOption } from '../client/server.ts'
import { ReaderGone, writePage } from '../client/write-page.ts'
import { CONSUMER_NAME, CONSUMER_NAME_RULE } from '../schemas/consumer-name.ts'
import { addFilterOptions, isAbort, startAttempts, stopOnSignals } from './following.ts'
import { nameOption } from './name-option.ts'
import { openConsumer, storeOffset } from './tail-consumer.ts'

interface Options extends FeedFilter {
  url: string
  from?: string
  consumer?: string
  limit?: number
}

const PARAMETERS = ['source', 'sourcePrefix', 'type', 'subject', 'offset', 'receivedFrom', 'receivedUntil']

const HELP = `
The API key is SLUICE_KEY, or else the key that npm start created. It needs the scope read.

Prints records in the order in which they were committed, and waits for more until Ctrl-C. On a terminal, each record is a line
for people, otherwise a line of JSON. If the server, a proxy or the connection fails after the first page, it tries again until
it succeeds, and continues after the last record that it wrote: no record is missing, and none is printed twice.

--from is one of
  start   the first record
  now     only records that are added later; the default without --consumer
  OFFSET  after this offset, such as the cursor of a record
  TIME    RFC 3339, such as 2026-01-31T12:00:00Z. All records received at this time or later are printed, unless the clock
          of the database was set back by more than an hour. A few that were received shortly before may be among the first
          ones, because the feed has the order of commits

--consumer stores the offset under this name on the server, after each batch that was written, and continues there the next
time. If there is no such consumer, it is created at --from, by default at the start. If the command is killed before it has
stored the offset of a batch, it prints that batch again the next time. Written means that the file or the pipe has taken the
records: the program that reads the pipe may not have processed all of them. Two processes cannot use the same consumer: one
of them ends with an error.

  sluice tail
  sluice tail --from 2026-01-31T12:00:00Z --type order.placed --type order.paid | jq .data
  sluice tail --consumer billing --source shop | ./billing

The exit code is 0 after Ctrl-C or SIGTERM, after --limit records, or if the program that reads the pipe has ended, which is
noticed at the next record. Otherwise it is 1.`

/** Options of `sluice tail`. */
export function defineTail(command: Command): void {
  command
    .addOption(urlOption())
    .option('--from <where>', 'where to begin: start, now, an offset or a time; see below')
    .option('--consumer <name>', 'continue where this consumer stopped, and store its offset; see below', readName)
  addFilterOptions(command)
    .option('--limit <n>', 'end after this number of records', readLimit)
    .addHelpText('after', HELP)
    .action(runTail)
}

/** Follows the feed until it is stopped. @throws Error with a sentence if it cannot continue */
async function runTail(options: Options): Promise<void> {
  const { url, from, limit = Number.POSITIVE_INFINITY, consumer: name, ...filter } = options
  const start = readStart(from ?? (name === undefined ? 'now' : 'start'))
  const server: Server = { url, token: (await findKey()).token }
  await checkReachable(url)

  const stop = stopOnSignals()
  // Each write has a callback, which gets the error.
  process.stdout.on('error', () => {})
  const { attempt, persist } = startAttempts(stop)
  const begin = () => attempt(() => start(server, stop))
  let at: string | undefined
  try {
    let consumer = name === undefined ? undefined : await openConsumer(server, name, from, begin, attempt)
    at = consumer?.offset ?? (await begin())
    for await (const page of followFeed({ server, filter, after: at, limit, attempt, stop })) {
      persist()
      at = await writePage(page, stop)
      if (consumer !== undefined) consumer = await storeOffset(server, consumer, at, attempt)
    }
  } catch (error) {
    if (error instanceof ReaderGone || (stop.aborted && isAbort(error))) return
    if (error instanceof Refused && error.problem.code === 'offset_ahead') error.message += ` The cursor is ${at}.`
    nameOption(PARAMETERS, { offset: '--from', receivedFrom: '--from', receivedUntil: '--from' })(error)
  }
}

function readName(text: string): string {
  if (CONSUMER_NAME.test(text)) return text
  throw new InvalidArgumentError(`It ${CONSUMER_NAME_RULE}.`)
}

function readLimit(text: string): number {
  if (!/^[1-9]\d{0,14}$/.test(text)) throw new InvalidArgumentError('It must be a whole number from 1.')
  return Number(text)
}
