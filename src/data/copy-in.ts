import type { Socket } from 'node:net'
import type pg from 'pg'
import { type Message, messageOf } from './message.ts'
import { confirmed } from './unconfirmed.ts'

interface Connection {
  stream: Socket
  query(sql: string): void
  sendCopyFail(reason: string): void
}

/** How the driver wants a query of another's making; of a DataRow it hands over the values, as text. */
interface Submittable {
  submit(connection: Connection): void
  handleRowDescription(): void
  handleDataRow(row: { fields: string[] }): void
  handleCopyInResponse(connection: Connection): void
  handleCommandComplete(): void
  handleReadyForQuery(): void
  handleError(error: unknown): void
}

/**
 * Runs `SELECT …; COPY … FROM STDIN (FORMAT binary)` as one simple query, and so as one transaction: it is committed when
 * this resolves.
 * https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-COPY
 * @param client with nothing else to do until then
 * @param write what writes the tuples, once it is told the row that was selected
 * @returns that row
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

  const copy: Submittable = {
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
        // In the driver's hands it would end the process. The server answers this with an error.
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
      client.query(copy as never)
      return promise
    })
    return selected
  } finally {
    // A server that refuses it, or ends, need not have read it to the end. Its memory must not be used again before it is sent.
    await sent
  }
}

/** https://www.postgresql.org/docs/18/sql-copy.html, "Binary Format": a signature, flags, no extension; tuples; the end. */
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
