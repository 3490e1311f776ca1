import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { buildLines } from '../order-events.ts'
import { postLines } from '../post.ts'

export type Task =
  | { kind: 'send'; port: number; key: string; bytes: number }
  | { kind: 'receive'; port: number; key: string }

export interface Streamed {
  records: number
  bytes: number
  seconds: number
}

/** Lines that are built at a time. */
const BLOCK_LINES = 1000
const NEWLINE = 0x0a

process.on('message', async (task: Task) => process.send?.(await perform(task)))
process.once('disconnect', () => process.exit())
process.send?.('ready')

async function perform(task: Task): Promise<Streamed> {
  const begin = performance.now()
  const streamed =
    task.kind === 'send' ? await send(task.port, task.key, task.bytes) : await receive(task.port, task.key)
  return { ...streamed, seconds: (performance.now() - begin) / 1000 }
}

/** Sends whole blocks of lines with at least this many bytes in total. */
async function send(port: number, key: string, atLeast: number) {
  const { bytes: block, number } = buildLines(BLOCK_LINES)
  const blocks = Math.ceil(atLeast / block.length)
  const [records, bytes] = [blocks * BLOCK_LINES, blocks * block.length]

  function* make(): Generator<Buffer> {
    for (let made = 0; made < records; made += BLOCK_LINES) {
      number(made)
      // A copy, because the previous block may not have been sent yet.
      yield Buffer.from(block)
    }
  }
  const { status, body } = await postLines(port, key, bytes, make())
  if (status !== 201) throw new Error(`memory: the server responded with ${status}: ${body}`)
  return { records, bytes }
}

async function receive(port: number, key: string) {
  const headers = { authorization: `Bearer ${key}`, accept: 'application/x-ndjson' }
  const [response] = (await once(get({ host: '127.0.0.1', port, path: '/v1/records', headers }), 'response')) as [
    IncomingMessage,
  ]
  if (response.statusCode !== 200) throw new Error(`memory: the server responded with ${response.statusCode}`)
  let [records, bytes] = [0, 0]
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    for (let at = chunk.indexOf(NEWLINE); at !== -1; at = chunk.indexOf(NEWLINE, at + 1)) records++
  }
  return { records, bytes }
}
