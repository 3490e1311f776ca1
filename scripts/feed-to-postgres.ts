import { Command } from 'commander'
import { type Consumer, commitOffset, createConsumer, describeOvertaken, findConsumer } from '../src/client/consumer.ts'
import { type FeedFilter, type FeedPage, followFeed } from '../src/client/feed.ts'
import { findKey } from '../src/client/key.ts'
import type { Attempt } from '../src/client/retry.ts'
import { checkReachable, Refused, type Server, urlOption } from '../src/client/server.ts'
import { addFilterOptions, isAbort, startAttempts, stopOnSignals } from '../src/commands/following.ts'
import { nameOption } from '../src/commands/name-option.ts'
import { START_OFFSET } from '../src/feed/read-page.ts'
import { checkDatabaseUrl } from '../src/lib/database-url.ts'
import { explain } from '../src/lib/explain.ts'
import { printable } from '../src/lib/printable.ts'
import { quoted } from '../src/lib/quoted.ts'
import { Target } from './feed-to-postgres/target.ts'

interface Options extends FeedFilter {
  url: string
  consumer: string
}

const program = new Command('feed-to-postgres')
  .description('Copies the records of the feed to another PostgreSQL, each exactly once, until Ctrl-C.')
  .addOption(urlOption())
  .requiredOption(
    '--consumer <name>',
    'also store the offset on the server under this name, so that its lag is visible',
  )
addFilterOptions(program).addHelpText(
  'after',
  `
TARGET_DATABASE_URL is the URL of the other database. What it leaves out, such as the password, is taken from PGPASSWORD and the
other variables of libpq. The API key is SLUICE_KEY, or else the key that npm start created. It needs the scope read.`,
)

copy(program.parse().opts()).catch((error) => {
  console.error(`feed-to-postgres: ${printable(explain(error))}.`)
  process.exitCode = 1
})

/** Follows the feed until it is stopped. The offset in the target decides where it continues; the consumer only shows it. */
async function copy({ url, consumer: name, ...filter }: Options): Promise<void> {
  const target = new Target(targetUrl())
  const server: Server = { url, token: (await findKey()).token }
  await checkReachable(url)
  const stop = stopOnSignals()
  const { attempt, persist } = startAttempts(stop)
  let after = START_OFFSET
  try {
    after = await openTarget(target, filter, attempt)
    let consumer = await openConsumer(server, name, after, attempt)
    for await (const page of followFeed({ server, filter, after, limit: Infinity, attempt, stop })) {
      persist()
      if (page.next !== after) await store(target, page, after, attempt)
      after = page.next
      consumer = await commitOffset(server, consumer, after, attempt)
    }
  } catch (error) {
    if (stop.aborted && isAbort(error)) return
    if (error instanceof Refused && error.problem.code === 'offset_ahead') error.message += ` The cursor is ${after}.`
    nameOption(['source', 'sourcePrefix', 'type', 'subject'], {})(error)
  } finally {
    await target.close()
  }
}

/** @throws Error with a sentence if it is missing or wrong */
function targetUrl(): string {
  const text = process.env.TARGET_DATABASE_URL ?? ''
  if (!/^postgres(?:ql)?:\/\//.test(text))
    throw new Error('TARGET_DATABASE_URL must be a URL like postgres://user@host:5432/database')
  try {
    return checkDatabaseUrl(text, process.env)
  } catch (error) {
    throw new Error(`TARGET_DATABASE_URL ${(error as Error).message}`)
  }
}

/** @returns the offset to continue from */
async function openTarget(target: Target, filter: FeedFilter, attempt: Attempt): Promise<string> {
  const { source, sourcePrefix, type, subject } = filter
  const wanted = JSON.stringify({ source, sourcePrefix, type: type?.toSorted(), subject })
  const { offset, filter: used } = await attempt(() => target.prepare(START_OFFSET, wanted))
  if (used !== wanted)
    throw new Error(
      `The target database has the records of the filter ${used}, not ${wanted}. Use the same filter, or another database or schema`,
    )
  return offset
}

async function openConsumer(server: Server, name: string, offset: string, attempt: Attempt): Promise<Consumer> {
  const consumer =
    (await attempt(() => findConsumer(server, name))) ?? (await attempt(() => createConsumer(server, name, offset)))
  if (offset === START_OFFSET && consumer.offset !== START_OFFSET)
    throw new Error(
      `The consumer ${quoted(name)} exists, but the target database has no records yet. Choose another name, or delete the consumer: DELETE /v1/consumers/${name}`,
    )
  if (consumer.overtakenAt !== null) console.error(printable(describeOvertaken(consumer)))
  return commitOffset(server, consumer, offset, attempt)
}

/** @throws Error with a sentence if another process has stored something */
async function store(target: Target, page: FeedPage, after: string, attempt: Attempt): Promise<void> {
  let isUnknown = false
  const before = await attempt(async () => {
    const wasUnknown = isUnknown
    isUnknown = true
    const offset = await target.store(page, after)
    // An earlier try was committed, but its response was lost.
    return wasUnknown && offset === page.next ? after : offset
  })
  if (before !== after) throw new Error('Another process copies to the same database. Stop one of them')
}
