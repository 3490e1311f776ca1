import type { Socket } from 'node:net'
import type pg from 'pg'
import { Column } from './column.ts'
import { type Message, messageOf } from './message.ts'

/** What the driver gives to `bind` of its connection. */
interface Bind {
  portal?: string
  statement?: string
  values?: readonly unknown[]
  valueMapper(value: unknown): string | Buffer | null | undefined
}

interface Connection {
  stream: Socket
  bind(bind: Bind): void
}

const TEXT = 0
const BINARY = 1

/**
 * Has a client write its Bind messages straight into memory that it keeps. The driver makes a buffer of each parameter,
 * copies it into one that it outgrows and makes anew, and leaves megabytes a flush to the garbage collector.
 * The memory may be used again for the next message: a client sends one statement at a time, and when it sends the next,
 * PostgreSQL has answered, and so read, the one before.
 */
export function bindInPlace(client: pg.Client): void {
  const { connection } = client as unknown as { connection: Connection }
  const message = messageOf(connection)
  connection.bind = (bind) => {
    message.restart()
    writeBind(message, bind)
    if (connection.stream.writable) connection.stream.write(message.written())
  }
}

/** https://www.postgresql.org/docs/18/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-BIND */
function writeBind(message: Message, { portal = '', statement = '', values = [], valueMapper }: Bind): void {
  // Flush, which asks for nothing. Without a message before it, a large Bind amid a transaction is silence to PostgreSQL until
  // all of it has come, and on a slow network idle_in_transaction_session_timeout ends the session each time.
  message.frame('H', () => {})
  const mapped = values.map((value) => (value instanceof Column ? value : (valueMapper(value) ?? null)))
  message.frame('B', () => {
    message.cstring(portal)
    message.cstring(statement)
    message.int16(mapped.length)
    for (const value of mapped) message.int16(typeof value === 'string' ? TEXT : BINARY)
    message.int16(mapped.length)
    for (const value of mapped) {
      if (value === null) message.int32(-1)
      else if (typeof value === 'string') message.sizedText(value)
      else message.sized(() => (value instanceof Column ? value.writeTo(message) : message.raw(value)))
    }
    // All columns of the result as text.
    message.int16(1)
    message.int16(TEXT)
  })
}
