import { setTimeout as sleep } from 'node:timers/promises'
import { type RawBuilder, sql } from 'kysely'
import { withConnection } from '../../../src/commands/database.ts'
import type { Database } from '../../../src/data/schema.ts'
import { encodeCursor } from '../../../src/lib/cursor.ts'
import { contentOf, digestOf } from './contents.ts'
import { type Attempt, type Exchange, type History, identityOf } from './history.ts'
import type { Random } from './random.ts'

export interface SlowWriterOptions {
  history: History
  random: Random
  /** Of a superuser, without anything in between. */
  url: string
  nextNumber(): number
}

const SOURCE = 'model/kept/slow'
/** What its transaction does at its beginning. Each has a time of receipt then; the first has its place in the feed much later. */
const BEGINNINGS = ['only its time', 'its transaction id', 'a row'] as const
/** An SQLSTATE of statements that can never work. */
const IMPOSSIBLE = /^(22|23|42)/
/** Both together within idle_in_transaction_session_timeout, which every connection has. */
const [ACKNOWLEDGED_MS, FOLLOWED_MS] = [2000, 1000]

/**
 * Writes records past the API, in transactions that are open while others commit and the follower reads to the end of the feed.
 * So does an instance whose COPY takes long. The records must be shown all the same, in the place of their transaction.
 */
export async function writeSlowly(options: SlowWriterOptions, stop: AbortSignal): Promise<void> {
  for (const { random } = options; !stop.aborted; await sleep(random.int(0, 300))) {
    const beginning = random.pick(BEGINNINGS)
    const exchange = newExchange(options.nextNumber(), beginning)
    const write = () => withConnection(options.url, (db) => writeOnce(db, exchange, beginning, options.history))
    // PostgreSQL may be away, or go away: then nobody knows whether they are stored.
    await write().catch((error) => {
      if (IMPOSSIBLE.test(error.code)) throw error
      exchange.answer = String(error)
    })
    exchange.end = options.history.now()
  }
}

async function writeOnce(
  db: Database,
  exchange: Exchange,
  beginning: (typeof BEGINNINGS)[number],
  history: History,
): Promise<void> {
  // Begins the epoch of a server that has just started. In the long transaction all writers would wait for that.
  await sql`SELECT sluice.current_epoch()`.execute(db)
  exchange.begin = history.now()
  history.add(exchange)
  const cursors = await db.transaction().execute(async (trx) => {
    const rows = exchange.attempts.map(toInsert)
    const insert = async (row: RawBuilder<Place>) => encodeCursor(toPosition((await row.execute(trx)).rows[0] as Place))
    const made: string[] = []
    if (beginning === 'a row') made.push(await insert(rows.shift() as RawBuilder<Place>))
    if (beginning === 'its transaction id') await sql`SELECT pg_current_xact_id()`.execute(trx)
    await history.moments.next('acknowledged', ACKNOWLEDGED_MS)
    await history.moments.next('followed', FOLLOWED_MS)
    for (const row of rows) made.push(await insert(row))
    return made
  })
  exchange.answer = 'committed'
  for (const [index, attempt] of exchange.attempts.entries()) {
    attempt.told = 'created'
    attempt.cursor = cursors[index]
  }
}

interface Place {
  epoch: number
  xid: string
  n: string
}

const toPosition = ({ epoch, xid, n }: Place) => ({ epoch, xid, n: Number(n) })

function toInsert({ index, id, identity }: Attempt): RawBuilder<Place> {
  const { type, data } = contentOf(identity, 0, 0)
  return sql<Place>`
    INSERT INTO sluice.records (epoch, n, source, id, type, data)
    VALUES (sluice.current_epoch(), ${index}, ${SOURCE}, ${id}, ${type}, ${data})
    RETURNING epoch, xid::text, n::text`
}

function newExchange(number: number, beginning: string): Exchange {
  const exchange: Exchange = {
    ...{ number, what: `a slow writer, at first ${beginning}`, strict: false, port: 0, begin: 0 },
    ...{ end: Number.POSITIVE_INFINITY, answer: 'none yet', createdLines: undefined, attempts: [] },
  }
  exchange.attempts = [0, 1].map((index) => {
    const id = `${number}.${index}`
    const identity = identityOf(SOURCE, id)
    const content = contentOf(identity, 0, 0)
    const digest = digestOf(content, undefined)
    const made = { identity, source: SOURCE, id, key: content.key, digest }
    return { ...made, exchange, index, bad: undefined, told: 'unknown', cursor: undefined }
  })
  return exchange
}
