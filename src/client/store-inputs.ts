import { cutChunks } from './chunks.ts'
import type { Input } from './input.ts'
import type { InputLine, UnsendableLine } from './lines.ts'
import { count, showProgress } from './progress.ts'
import type { RejectedLines } from './rejected-lines.ts'
import type { Server } from './server.ts'
import { type RejectedLine, storeLines } from './store-lines.ts'
import type { Tally } from './tally.ts'

export interface Run {
  /** Requests at once. */
  connections: number
  /** Ends the run after the current requests. If the reason is text, it is shown. */
  stop: AbortController
  rejected: RejectedLines
  tally: Tally
}

/**
 * Sends the records of the inputs over several connections.
 * @returns why it ended early; undefined if it did not, or if the caller stopped it
 */
export async function storeInputs(inputs: readonly Input[], server: Server, run: Run): Promise<unknown> {
  const { connections, stop, rejected, tally } = run
  const progress = showProgress(sizeOf(inputs))
  const begin = performance.now()
  stop.signal.addEventListener('abort', () => {
    const { reason } = stop.signal
    if (typeof reason === 'string') progress.note(reason)
  })
  let [failure, byteOffset, noted]: [unknown, number, string] = [undefined, 0, '']
  // All connections share one generator: a free connection takes the next chunk.
  const chunks = cutChunks(inputs, stop.signal)
  await Promise.all(Array.from({ length: connections }, sendChunks))
  progress.stop()
  return failure

  async function sendChunks(): Promise<void> {
    try {
      for await (const chunk of chunks) {
        if (stop.signal.aborted) return
        const stored = await storeLines(server, chunk, { stop: stop.signal, onWait: noteWait })
        tally.add(chunk, stored)
        await rejected.add(
          chunk.input,
          [...chunk.lines.filter(isUnsendable).map(toRejected), ...stored.rejected].toSorted(byLine),
        )
        byteOffset = Math.max(byteOffset, chunk.byteOffset)
        progress.update(byteOffset, describeProgress())
      }
    } catch (error) {
      // Connections that are stopped while they wait fail as well. The first failure is the reason.
      if (!stop.signal.aborted) failure = error
      stop.abort()
    }
  }

  function describeProgress(): string {
    const rate = (tally.records * 1000) / (performance.now() - begin)
    const notStored = tally.notStored === 0 ? '' : `, ${count(tally.notStored)} not stored`
    return `${count(tally.records)} records, ${count(Math.round(rate))}/s${notStored}`
  }

  /** Several connections wait for the same reason: show it once. */
  function noteWait(text: string): void {
    if (text !== noted) progress.note(text)
    noted = text
  }
}

const isUnsendable = (line: InputLine) => line.reason !== undefined

const toRejected = (line: UnsendableLine): RejectedLine => ({ line, reason: line.reason })

const byLine = (one: RejectedLine, other: RejectedLine) => one.line.number - other.line.number

/** Total size in bytes; undefined: unknown. */
function sizeOf(inputs: readonly Input[]): number | undefined {
  if (!inputs.every(({ stats }) => stats?.isFile() === true)) return undefined
  return inputs.reduce((sum, { stats }) => sum + (stats?.size ?? 0), 0)
}
