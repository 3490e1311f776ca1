import { type Command, InvalidArgumentError } from 'commander'
import { type Consumer, commitOffset, createConsumer, describeOvertaken, findConsumer } from '../client/consumer.ts'
import { type FeedFilter, type FeedPage, followFeed } from '../client/feed.ts'
import { readStart } from '../client/feed-start.ts'
import { findKey } from '../client/key.ts'
import { describeRecord } from '../client/record-line.ts'
import type { Attempt } from '../client/retry.ts'
import { checkReachable, Refused, type Server, urlOption } from '../client/server.ts'
import { ReaderGone, writeOut } from '../client/write-out.ts'
import { printable } from '../lib/printable.ts'
import { quoted } from '../lib/quoted.ts'
import { addFilterOptions, attempts, isAbort, stopOnSignals } from './following.ts'
import { nameOption } from './name-option.ts'

interface Options extends FeedFilter {
  url: string
  from?: string
  consumer?: string
  limit?: number
}

const PARAMETERS = ['source', 'sourcePrefix', 'type', 'subject', 'offset', 'receivedFrom', 'receivedUntil']

const HELP = `
The API key is SLUICE_KEY, or else the key that npm start created. It needs the scope read.

Prints records in the order in which they were committed, and waits for more until Ctrl-C: on a terminal a line for people,
otherwise one record in JSON per line. If the server or the connection fails, it tries again until it succeeds, and continues
after the last record that was written: none is missing, and none is printed twice.

--from is one of
  start   the first record
  now     only records that are added later; the default without --consumer
  OFFSET  after this offset, such as the cursor of a record
  TIME    RFC 3339, such as 2026-01-31T12:00:00Z. All records received at this time or later are printed, unless the clock
          of the database was set back by more than an hour. A few that were received shortly before may be among the first
          ones, because the order of the feed is that of commits

--consumer stores the offset under this name on the server, after each batch that was written, and continues there the next
time. If there is no such consumer, it is created; --from, by default start, says where. If the command is killed between a
batch and its offset, it prints that batch again. Written means that the file or the pipe has taken it: the reader of a pipe
may not have processed all of it. Two processes cannot use the same consumer: one of them ends with an error.

  sluice tail
  sluice tail --from 2026-01-31T12:00:00Z --type order.placed --type order.paid | jq .data
  sluice tail --consumer billing --source shop | ./billing

The exit code is 0 after Ctrl-C, SIGTERM, --limit records, or if the reader of the pipe has ended, otherwise 1.`

/** Options of `sluice tail`. */
export function defineTail(command: Command): void {
  command
    .addOption(urlOption())
    .option('--from <where>', 'where to begin: start, now, an offset or a time; see below')
    .option('--consumer <name>', 'continue where this consumer stopped, and store its offset; see below')
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
  const { briefly, patiently } = attempts(stop)
  const begin = () => briefly(() => start(server, stop))
  let at: string | undefined
  try {
    let consumer = name === undefined ? undefined : await openConsumer(server, name, from, begin, briefly)
    at = consumer?.offset ?? (await begin())
    for await (const page of followFeed({ server, filter, after: at, limit, attempt: patiently, stop })) {
      at = await writePage(page, stop)
      if (consumer !== undefined) consumer = await commit(server, consumer, at, patiently)
    }
  } catch (error) {
    if (error instanceof ReaderGone || (stop.aborted && isAbort(error))) return
    if (error instanceof Refused && error.problem.code === 'offset_ahead') error.message += ` The cursor is ${at}.`
    nameOption(PARAMETERS, { offset: '--from', receivedFrom: '--from', receivedUntil: '--from' })(error)
  }
}

/** @param begin finds the offset at which to create the consumer */
async function openConsumer(
  server: Server,
  name: string,
  from: string | undefined,
  begin: () => Promise<string>,
  attempt: Attempt,
): Promise<Consumer> {
  const existing = await attempt(() => findConsumer(server, name))
  if (existing === undefined) {
    const offset = await begin()
    return attempt(() => createConsumer(server, name, offset))
  }
  if (from !== undefined)
    throw new Error(
      `The consumer ${quoted(name)} exists, so --from is not possible. Omit it to continue where the consumer stopped, choose another name, or delete the consumer: DELETE /v1/consumers/${name}`,
    )
  if (existing.overtakenAt !== null) console.error(printable(describeOvertaken(existing)))
  return existing
}

/** Of a terminal that does not say how wide it is. */
const DEFAULT_COLUMNS = 80

/** In characters. After a signal, no more than this is still written. */
const PORTION = 65_536

/** Writes the records of a page to stdout, or some of them if it is stopped. @returns the offset up to which it wrote */
async function writePage({ records, next }: FeedPage, stop: AbortSignal): Promise<string> {
  const { isTTY, columns } = process.stdout
  let portion = ''
  for (const [index, { text, cursor }] of records.entries()) {
    portion += `${isTTY ? describeRecord(text, columns || DEFAULT_COLUMNS) : text}\n`
    if (portion.length < PORTION && index + 1 < records.length) continue
    await writeOut(portion)
    if (stop.aborted) return cursor
    portion = ''
  }
  return next
}

/** Stores the offset of what was written. If it is stopped, it tries once. */
function commit(server: Server, consumer: Consumer, offset: string, attempt: Attempt): Promise<Consumer> {
  return commitOffset(server, consumer, offset, attempt).catch((cause) => {
    if (!isAbort(cause)) throw cause
    throw new Error(
      `Interrupted, but the offset of the consumer ${quoted(consumer.name)} could not be stored. The next run will print the last records again`,
    )
  })
}

function readLimit(text: string): number {
  if (!/^[1-9]\d{0,14}$/.test(text)) throw new InvalidArgumentError('It must be a whole number from 1.')
  return Number(text)
}
