import { Readable } from 'node:stream'
import { printable } from '../lib/printable.ts'

/** A text for a terminal, which must not interpret what a payload contains. A file or a pipe gets the text as it is. */
export async function* forTerminal(bytes: AsyncIterable<Buffer>): AsyncGenerator<string> {
  for await (const text of Readable.from(bytes).setEncoding('utf8')) yield text.split('\n').map(printable).join('\n')
}
