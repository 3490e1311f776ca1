import type { Socket } from 'node:net'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'

/** How long a connection that owes an answer may be silent before somebody asks after it, and then again. */
const SILENT_MS = 2_000
/** How long it may then still take: the silence may be that from before a statement which was sent this very moment. */
const LAST_MOMENT_MS = 500
/** How long PostgreSQL may take to let that one in, and then to tell. */
const ANSWER_MS = 1_500

/** What the driver keeps to itself, by the names it has there. */
interface Internals {
  connection: { stream: Socket }
  /** Of the backend. */
  processID: number
  /** Owes no answer. */
  readyForQuery: boolean
}

const internalsOf = (client: pg.ClientBase) => client as unknown as Internals

/**
 * Finds a connection that is dead and does not know it. When a network drops packets, or a host is gone, nobody tells:
 * a statement that was sent would wait for TCP to give up, which takes a quarter of an hour, and TCP's own keep-alive
 * is no help while sent bytes are not acknowledged (RFC 1122, section 4.2.3.6).
 *
 * A statement may take its time, so silence alone proves nothing, and no timeout is right for both a row and a hundred
 * thousand. A silent connection is asked after over another one: it is cut when PostgreSQL cannot be reached, and when it
 * says that it is not working on that statement. Whoever waits for the answer then learns that the connection broke.
 *
 * @param client that is logged in
 * @param config to connect with
 */
export function watchSilence(client: pg.ClientBase, config: pg.ClientConfig): void {
  const { connection, processID } = internalsOf(client)
  const { stream } = connection
  // Each byte, in or out, begins the time anew (Node.js, socket.setTimeout).
  stream.setTimeout(SILENT_MS)
  stream.on('timeout', () => {
    if (!internalsOf(client).readyForQuery) void askAfter(stream, processID, config)
  })
}

async function askAfter(stream: Socket, pid: number, config: pg.ClientConfig): Promise<void> {
  const { bytesRead } = stream
  await sleep(LAST_MOMENT_MS, undefined, { ref: false })
  await readWhatCame()
  if (stream.destroyed || stream.bytesRead !== bytesRead) return
  const working = await isWorking(pid, config)
  await readWhatCame()
  if (working || stream.bytesRead !== bytesRead) return void stream.setTimeout(SILENT_MS)
  const error = new Error('the connection is dead: PostgreSQL does not answer on it')
  // As the kernel would have it, if it knew.
  stream.destroy(Object.assign(error, { code: 'ETIMEDOUT' }))
}

/** Reads what arrived while this process was busy or stopped: sockets are read before the next turn begins. */
const readWhatCame = () => nextTurn()

/** @returns whether that backend works on a statement; true as well when PostgreSQL is there and does not tell */
async function isWorking(pid: number, config: pg.ClientConfig): Promise<boolean> {
  const client = new pg.Client({
    ...config,
    application_name: 'sluice-watch',
    connectionTimeoutMillis: ANSWER_MS,
    query_timeout: ANSWER_MS,
  })
  client.on('error', () => {})
  try {
    await client.connect()
    // One that waits for us, to send or to read on, waits for a connection that is dead: it is ended, or what is sent again
    // would wait for its locks. Should the number be another's by now, that one tries again, as we do.
    const { rows } = await client.query<{ self: number; working: boolean | null }>(
      `SELECT pg_backend_pid() AS self, (
         SELECT CASE WHEN state LIKE 'idle%' OR wait_event_type = 'Client' THEN NOT pg_terminate_backend(pid)
                     ELSE true END
         FROM pg_stat_activity WHERE pid = $1 AND usename = current_user
       ) AS working`,
      [pid],
    )
    const [{ self, working }] = rows as [(typeof rows)[0]]
    // A pooler between gives numbers of its own, and nobody can tell.
    return self !== internalsOf(client).processID || working === true
  } catch (error) {
    // 57P is its end and its start: whatever it was working on is over.
    const sqlstate = error instanceof pg.DatabaseError ? error.code : undefined
    return sqlstate !== undefined && !sqlstate.startsWith('57P')
  } finally {
    internalsOf(client).connection.stream.destroy()
  }
}
