import { setTimeout as sleep } from 'node:timers/promises'
import type { RawBuilder } from 'kysely'
import pg from 'pg'
import { requestCancel } from './cancel.ts'
import { withClient } from './connect.ts'
import type { Database } from './schema.ts'

/**
 * A cancel request does nothing when it arrives before the statement has begun, or, through a service with several
 * standbys, at another one: it is sent again until the statement has ended.
 */
const CANCEL_AGAIN_MS = 250

/**
 * Runs a statement and hands over each row as it arrives. When `signal` aborts, or `onRow` throws, the statement is
 * cancelled, and the connection is busy until it has ended.
 * @param signal absent: the statement cannot be cancelled, and may be part of a transaction
 * @throws the reason of `signal`; what `onRow` throws; what the driver throws
 */
export async function readRows<Row>(
  db: Database,
  query: RawBuilder<Row>,
  signal: AbortSignal | undefined,
  onRow: (row: Row) => void,
): Promise<void> {
  if (signal === undefined) {
    const { rows } = await query.execute(db)
    for (const row of rows) onRow(row)
    return
  }
  const { sql, parameters } = query.compile(db)
  await withClient(db, sql, async (client, discard) => {
    signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    let isOver = false
    const ended = promise.then(over, over)
    function over() {
      isOver = true
    }
    let failure: { reason: unknown } | undefined
    let cancelling: Promise<void> | undefined

    const cancel = async () => {
      while (!isOver) {
        // Not known to be over: it could hit the next statement on this connection.
        await requestCancel(client).catch(discard)
        const stop = new AbortController()
        await Promise.race([ended, sleep(CANCEL_AGAIN_MS, undefined, { signal: stop.signal }).catch(() => {})])
        stop.abort()
      }
    }
    const fail = (reason: unknown) => {
      failure ??= { reason }
      cancelling ??= cancel()
    }
    const leave = () => fail(signal.reason)

    signal.addEventListener('abort', leave)
    try {
      const statement = client.query(new pg.Query(sql, [...parameters]))
      statement.on('row', (row) => {
        if (failure !== undefined) return
        try {
          onRow(row as Row)
        } catch (error) {
          // In the driver's hands it would end the process.
          fail(error)
        }
      })
      statement.on('end', () => resolve())
      statement.on('error', reject)
      await promise
    } catch (error) {
      failure ??= { reason: error }
    } finally {
      signal.removeEventListener('abort', leave)
      await cancelling
    }
    if (failure !== undefined) throw failure.reason
  })
}
