import { setTimeout as sleep } from 'node:timers/promises'
import type { RawBuilder } from 'kysely'
import pg from 'pg'
import { requestCancel } from './cancel.ts'
import { statementName, withClient } from './connect.ts'
import type { Database } from './tables.ts'

/**
 * A cancel request has no effect if it arrives before the statement has begun, or if a Service with several standbys routes
 * it to another one. So it is sent again until the statement has ended.
 */
const CANCEL_AGAIN_MS = 250

/**
 * Runs a statement and calls `onRow` with each row as it arrives. If `signal` aborts or `onRow` throws, the statement is
 * cancelled. The connection stays in use until the statement has ended.
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
        // If it failed, the request may still arrive later and cancel the next statement on this connection, which is therefore
        // discarded.
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
      const name = statementName(client, sql)
      const config = { text: sql, values: [...parameters], ...(name !== undefined && { name }) }
      const statement = client.query(new pg.Query(config))
      statement.on('row', (row) => {
        if (failure !== undefined) return
        try {
          onRow(row as Row)
        } catch (error) {
          // Thrown inside the driver, it would end the process.
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
