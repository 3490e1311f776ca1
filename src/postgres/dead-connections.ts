import type { Socket } from 'node:net'
import { setImmediate as nextIteration, setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { connectionOf, isBusy, processIdOf } from './pg-internals.ts'

/** How long a connection with a running statement may be silent before it is checked, and between two checks. */
const SILENT_MS = 2_000
/** Extra time before the check: the statement may have been sent just now, so the silence may be older than the statement. */
const LAST_MOMENT_MS = 500
/** How long PostgreSQL may take to accept the connection of the check, and then to respond. */
const CHECK_MS = 1_500

/**
 * Finds dead connections. If a network drops packets or a host disappears, nothing closes the connection: a statement would
 * wait until TCP gives up, which takes a quarter of an hour. TCP keep-alive does not help while sent bytes are not acknowledged
 * (RFC 1122, section 4.2.3.6).
 *
 * A statement may take long, so silence alone proves nothing, and no timeout suits both one row and a hundred thousand. A silent
 * connection is therefore checked through another connection. It is closed if PostgreSQL is unreachable, or if PostgreSQL says
 * that it is not working on the statement. The statement then fails with a broken connection.
 *
 * @param client logged in
 * @param connectionString for the connection of the check
 */
export function closeWhenDead(client: pg.ClientBase, connectionString: string): void {
  const { stream } = connectionOf(client)
  // Each byte, in or out, restarts the timer (Node.js, socket.setTimeout).
  stream.setTimeout(SILENT_MS)
  stream.on('timeout', () => {
    if (isBusy(client)) void check(stream, processIdOf(client), connectionString)
  })
}

async function check(stream: Socket, pid: number, connectionString: string): Promise<void> {
  const { bytesRead } = stream
  await sleep(LAST_MOMENT_MS, undefined, { ref: false })
  await readPendingData()
  if (stream.destroyed || stream.bytesRead !== bytesRead) return
  const working = await isWorking(pid, connectionString)
  await readPendingData()
  if (working || stream.bytesRead !== bytesRead) return void stream.setTimeout(SILENT_MS)
  const error = new Error('the connection is dead: PostgreSQL does not respond')
  // The error code that the kernel would give.
  stream.destroy(Object.assign(error, { code: 'ETIMEDOUT' }))
}

/** Reads what arrived while this process was busy or stopped: sockets are read before the next iteration of the event loop. */
const readPendingData = () => nextIteration()

/** @returns whether that backend works on a statement; also true if PostgreSQL responds but cannot say */
async function isWorking(pid: number, connectionString: string): Promise<boolean> {
  const client = new pg.Client({
    connectionString,
    application_name: 'sluice-watch',
    connectionTimeoutMillis: CHECK_MS,
    query_timeout: CHECK_MS,
  })
  client.on('error', () => {})
  try {
    await client.connect()
    // A backend that waits for its client waits for a dead connection. It is terminated, because a retry would wait for its
    // locks. If the process id belongs to another backend by now, the client of that one retries as well.
    // The search path of the role does not count: see session.ts.
    await client.query(`SET search_path = pg_catalog`)
    const { rows } = await client.query<{ self: number; working: boolean | null }>(
      `SELECT pg_backend_pid() AS self, (
         SELECT CASE WHEN state LIKE 'idle%' OR wait_event_type = 'Client' THEN NOT pg_terminate_backend(pid)
                     ELSE true END
         FROM pg_stat_activity WHERE pid = $1 AND usename = current_user
       ) AS working`,
      [pid],
    )
    const [{ self, working }] = rows as [(typeof rows)[0]]
    // A pooler in between reports its own process ids. Then the check cannot know.
    return self !== processIdOf(client) || working === true
  } catch (error) {
    // 57P: the server is shutting down or starting, so no statement is running.
    const sqlstate = error instanceof pg.DatabaseError ? error.code : undefined
    return sqlstate !== undefined && !sqlstate.startsWith('57P')
  } finally {
    connectionOf(client).stream.destroy()
  }
}
