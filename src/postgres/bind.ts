import type pg from 'pg'
import { Column } from './column.ts'
import { type Message, messageOf } from './message.ts'
import { type Bind, connectionOf, replaceBind } from './pg-internals.ts'

const TEXT = 0
const BINARY = 1

/**
 * Makes a client write its Bind messages straight into a buffer that it reuses. The driver instead makes a buffer for each
 * parameter, copies it into another buffer that it reallocates as it grows, and leaves megabytes per flush to the garbage
 * collector.
 * Reusing the buffer is safe: a client sends one statement at a time, and only after PostgreSQL has answered the previous one,
 * so it has read it.
 */
export function bindInPlace(client: pg.Client): void {
  const connection = connectionOf(client)
  const message = messageOf(connection)
  replaceBind(client, (bind) => {
    message.restart()
    writeBind(message, bind)
    if (connection.stream.writable) connection.stream.write(message.written())
  })
}

/** https://www.postgresql.org/docs/18/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-BIND */
function writeBind(message: Message, { portal = '', statement = '', values = [], valueMapper }: Bind): void {
  // A Flush message, which has no effect of its own. PostgreSQL counts a session in a transaction as idle until a message has
  // arrived completely. On a slow network, a large Bind would take longer than idle_in_transaction_session_timeout, and the
  // session would be ended each time.
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
    // All result columns are text.
    message.int16(1)
    message.int16(TEXT)
  })
}
