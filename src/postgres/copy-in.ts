import type { Socket } from 'node:net'
import type pg from 'pg'
import { type Message, messageOf } from './message.ts'
import { type CustomQuery, runCustomQuery } from './pg-internals.ts'
import { confirmed } from './unconfirmed.ts'

/**
 * Runs `SELECT …; COPY … FROM STDIN (FORMAT binary)` as one simple query, which is one transaction. It is committed when the
 * promise resolves.
 * https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-COPY
 * @param client idle, and not used by others until then
 * @param write writes the tuples; gets the row that was selected
 * @returns the row that was selected
 * @throws UnconfirmedError, and what the driver throws
 */
export async function copyIn(
  client: pg.Client,
  sql: string,
  write: (message: Message, selected: string[]) => void,
): Promise<string[]> {
  let selected: string[] = []
  let sent = Promise.resolve()
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  let defect: unknown

  const copy: CustomQuery = {
    submit: (connection) => connection.query(sql),
    handleRowDescription() {},
    handleDataRow: ({ fields }) => {
      selected = fields
    },
    handleCopyInResponse(connection) {
      try {
        const message = messageOf(connection)
        message.restart()
        message.frame('d', () => writeData(message, () => write(message, selected)))
        message.frame('c', () => {})
        sent = flushed(connection.stream, message)
      } catch (error) {
        // Thrown inside the driver, it would end the process. CopyFail makes the server respond with an error.
        defect = error
        connection.sendCopyFail('')
      }
    },
    handleCommandComplete() {},
    handleReadyForQuery: resolve,
    handleError: (error) => reject(defect ?? error),
  }

  try {
    await confirmed(client, () => {
      runCustomQuery(client, copy)
      return promise
    })
    return selected
  } finally {
    // If the COPY fails or the server shuts down, the data may still be waiting to be sent. Its memory must not be reused
    // before.
    await sent
  }
}

/** https://www.postgresql.org/docs/18/sql-copy.html, "Binary Format": signature, flags, no extension, tuples, trailer. */
function writeData(message: Message, writeTuples: () => void): void {
  message.raw(SIGNATURE)
  message.int32(0)
  message.int32(0)
  writeTuples()
  message.int16(-1)
}

const SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1')

function flushed(stream: Socket, message: Message): Promise<void> {
  return new Promise((resolve) => void stream.write(message.written(), () => resolve()))
}
