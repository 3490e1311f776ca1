import { buildLines } from '../order-events.ts'
import { type PostResponse, postLines } from '../post.ts'
import { buildCopyText, copyIn } from './copy.ts'

export type Task =
  | { kind: 'prepare'; records: number }
  | { kind: 'post'; port: number; key: string }
  | { kind: 'copy'; url: string; connections: 1 | 2 }

export interface Sent {
  /** From the first byte to the response. */
  seconds: number
  response?: PostResponse
}

/** The chunk size of Node.js when it reads a file. */
const PIECE_BYTES = 64 * 1024

// Built before the clock runs, so that only sending and storing are measured.
let ndjson: Buffer = Buffer.alloc(0)
let halves: [Buffer, Buffer] = [ndjson, ndjson]

process.on('message', async (task: Task) => process.send?.(await perform(task)))
process.once('disconnect', () => process.exit())
process.send?.('ready')

async function perform(task: Task): Promise<Sent | null> {
  switch (task.kind) {
    case 'prepare': {
      const { bytes, number } = buildLines(task.records)
      number(0)
      ndjson = bytes
      const half = Math.ceil(task.records / 2)
      halves = [buildCopyText(0, half), buildCopyText(half, task.records)]
      return null
    }
    case 'post': {
      const begin = performance.now()
      const response = await postLines(task.port, task.key, ndjson.length, cut(ndjson))
      return { seconds: (performance.now() - begin) / 1000, response }
    }
    case 'copy': {
      const [one, other] = halves
      const streams = task.connections === 2 ? [cut(one), cut(other)] : [cut(one, other)]
      return { seconds: await copyIn(task.url, streams) }
    }
  }
}

function* cut(...buffers: Buffer[]): Generator<Buffer> {
  for (const bytes of buffers) {
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES)
  }
}
