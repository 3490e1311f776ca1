import { setTimeout as sleep } from 'node:timers/promises'
import { type RawBuilder, sql } from 'kysely'
import { withConnection } from '../../../src/commands/database.ts'
import { encodeOffset } from '../../../src/lib/offset.ts'
import type { Database } from '../../../src/postgres/tables.ts'
import { contentOf, digestOf } from './contents.ts'
import { type Attempt, type Exchange, type History, identityOf } from './history.ts'
import type { Random } from './random.ts'

interface SlowWriterOptions {
  history: History
  /** The URL of a superuser, without proxies. */
  url: string
}

const SOURCE = 'model/kept/slow'
/**
 * What its transaction does first. In each case, the time of receipt is that of the beginning. In the first case, the transaction
 * gets its position in the feed much later.
 */
export const BEGINNINGS = ['only its time', 'its transaction id', 'a row'] as const
type Beginning = (typeof BEGINNINGS)[number]
const ENDINGS = ['COMMIT', 'COMMIT', 'ROLLBACK'] as const
type Ending = (typeof ENDINGS)[number]
/** SQLSTATEs of statements that can never succeed. */
const IMPOSSIBLE = /^(22|23|42)/
/** Together less than idle_in_transaction_session_timeout, which every connection sets. */
const [ACKNOWLEDGED_MS, FOLLOWED_MS] = [2000, 1000]

/**
 * Writes records directly to PostgreSQL, in transactions that stay open while others commit and the list is read to the end of the
 * feed, like an instance with a slow COPY. All followers must still see the records, at the position of their transaction, unless it is
 * rolled back.
 */
export async function writeSlowly(
  { random, nextNumber, ...options }: SlowWriterOptions & { random: Random; nextNumber(): number },
  stop: AbortSignal,
): Promise<void> {
  for (; !stop.aborted; await sleep(random.int(0, 300)))
    await writeSlowlyOnce(options, nextNumber(), random.pick(BEGINNINGS), random.pick(ENDINGS), async () => {
      await options.history.moments.next('acknowledged', ACKNOWLEDGED_MS)
      await options.history.moments.next('followed', FOLLOWED_MS)
    })
}

/** @param meanwhile runs while the transaction is open */
export async function writeSlowlyOnce(
  { history, url }: SlowWriterOptions,
  number: number,
  beginning: Beginning,
  ending: Ending,
  meanwhile: () => Promise<void>,
): Promise<void> {
  const exchange = newExchange(number, beginning, ending)
  try {
    const cursors = await withConnection(url, async (db) => {
      // Begins the epoch of a server that has just started. If the long transaction did it, all writers would wait for it.
      await sql`SELECT sluice.current_epoch()`.execute(db)
      exchange.begin = history.now()
      history.add(exchange)
      return await write(db, exchange, beginning, ending, meanwhile)
    })
    exchange.response = 'committed'
    for (const [index, attempt] of exchange.attempts.entries()) {
      attempt.claim = 'created'
      attempt.cursor = cursors[index]
    }
  } catch (error) {
    if (IMPOSSIBLE.test(String((error as { code?: string }).code))) throw error
    // PostgreSQL is unavailable or the connection broke, so it is unknown whether the records are stored, unless there was no COMMIT.
    exchange.response = String(error)
    if (ending === 'ROLLBACK') for (const attempt of exchange.attempts) attempt.claim = 'not_written'
  }
  exchange.end = history.now()
}

/** @returns the cursors of the records */
async function write(
  db: Database,
  { attempts }: Exchange,
  beginning: Beginning,
  ending: Ending,
  meanwhile: () => Promise<void>,
): Promise<string[]> {
  return db.transaction().execute(async (trx) => {
    const rows = attempts.map(toInsert)
    const insert = async (row: RawBuilder<PositionColumns>) =>
      encodeOffset(toPosition((await row.execute(trx)).rows[0] as PositionColumns))
    const made: string[] = []
    if (beginning === 'a row') made.push(await insert(rows.shift() as RawBuilder<PositionColumns>))
    if (beginning === 'its transaction id') await sql`SELECT pg_current_xact_id()`.execute(trx)
    await meanwhile()
    for (const row of rows) made.push(await insert(row))
    if (ending === 'ROLLBACK') throw new Error('rolled back')
    return made
  })
}

interface PositionColumns {
  epoch: number
  xid: string
  n: string
}

const toPosition = ({ epoch, xid, n }: PositionColumns) => ({ epoch, xid, n: Number(n) })

function toInsert({ index, id, identity }: Attempt): RawBuilder<PositionColumns> {
  const { type, data } = contentOf(identity, 0, 0)
  return sql<PositionColumns>`
    INSERT INTO sluice.records (epoch, n, source, id, type, data)
    VALUES (sluice.current_epoch(), ${index}, ${SOURCE}, ${id}, ${type}, ${data})
    RETURNING epoch, xid::text, n::text`
}

function newExchange(number: number, beginning: Beginning, ending: Ending): Exchange {
  const exchange: Exchange = {
    what: `a slow writer that begins with ${beginning} and ends with ${ending}`,
    ...{ number, strict: false, port: 0, begin: 0 },
    ...{ end: Number.POSITIVE_INFINITY, response: 'none yet', attempts: [] },
    ...{ createdLines: undefined, storedLines: undefined },
  }
  exchange.attempts = [0, 1].map((index) => {
    const id = `${number}.${index}`
    const identity = identityOf(SOURCE, id)
    const content = contentOf(identity, 0, 0)
    const digest = digestOf(content, undefined)
    const made = { identity, source: SOURCE, id, key: content.key, digest }
    return { ...made, exchange, index, bad: undefined, claim: 'unknown', cursor: undefined }
  })
  return exchange
}
