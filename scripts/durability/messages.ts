/**
 * Splits the bytes of one direction of a connection into the messages of the PostgreSQL protocol.
 * https://www.postgresql.org/docs/18/protocol-overview.html: a message starts with one byte for its type, followed by its length,
 * which includes the length field but not the type. The first message of the client has no type.
 */
export class MessageReader {
  #rest: Buffer = Buffer.alloc(0)
  #first: boolean

  constructor(side: 'client' | 'server') {
    this.#first = side === 'client'
  }

  /** Returns the messages that are now complete, including their type and length. */
  *read(bytes: Buffer): Generator<{ type: string; message: Buffer }> {
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes])
    for (;;) {
      const head = this.#first ? 0 : 1
      if (this.#rest.length < head + 4) return
      const end = head + this.#rest.readUInt32BE(head)
      if (this.#rest.length < end) return
      const message = this.#rest.subarray(0, end)
      this.#rest = this.#rest.subarray(end)
      const type = this.#first ? 'startup' : String.fromCharCode(message[0] as number)
      this.#first = false
      yield { type, message }
    }
  }
}

/** The application_name in a startup message, which consists of names and values, each terminated by a zero byte. */
export function applicationName(startup: Buffer): string | undefined {
  const texts = startup.subarray(8).toString().split('\0')
  return texts[texts.indexOf('application_name') + 1]
}

/**
 * Replaces the value of a setting in a Query message that sets up a session (src/postgres/session.ts). The message stays the same
 * if it does not set it.
 */
export function withSetting(query: Buffer, name: string, value: string): Buffer {
  const text = query.toString('latin1', 5).replace(new RegExp(`(?<=set_config\\('${name}', ')[^']*`), value)
  const message = Buffer.from(`Q1234${text}`, 'latin1')
  message.writeUInt32BE(message.length - 1, 1)
  return message
}
