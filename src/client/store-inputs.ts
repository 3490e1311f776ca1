import { cutChunks } from './chunks.ts'
import type { Input } from './input.ts'
import type { InputLine } from './lines.ts'
import { count, showProgress } from './progress.ts'
import type { RefusedLines } from './refused-lines.ts'
import type { Server } from './server.ts'
import { type RefusedLine, storeLines } from './store-lines.ts'
import type { Tally } from './tally.ts'

export interface Run {
  /** Requests at once. */
  connections: number
  /** Ends the run after the requests that are under way; a reason that is text is told. */
  stop: AbortController
  refused: RefusedLines
  tally: Tally
}

/**
 * Sends what is in the inputs, over several connections.
 * @returns why it ended before everything was dealt with; undefined, too, when it was stopped from outside
 */
export async function storeInputs(inputs: readonly Input[], server: Server, run: Run): Promise<unknown> {
  const { connections, stop, refused, tally } = run
  const progress = showProgress(sizeOf(inputs))
  const begin = performance.now()
  stop.signal.addEventListener('abort', ({ target }) => {
    const { reason } = target as AbortSignal
    if (typeof reason === 'string') progress.note(reason)
  })
  let [failure, position, noted]: [unknown, number, string] = [undefined, 0, '']
  // One generator for all: whoever is free takes the next chunk.
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
        await refused.add(chunk.input, [...chunk.unsendable.map(toRefused), ...stored.refused].toSorted(byLine))
        position = Math.max(position, chunk.position)
        progress.update(position, howFar())
      }
    } catch (error) {
      // Whoever is stopped while it waits fails as well; what stopped it is the reason.
      if (!stop.signal.aborted) failure = error
      stop.abort()
    }
  }

  function howFar(): string {
    const rate = (tally.records * 1000) / (performance.now() - begin)
    const bad = tally.refused === 0 ? '' : `, ${count(tally.refused)} refused`
    return `${count(tally.records)} records, ${count(Math.round(rate))}/s${bad}`
  }

  /** All connections wait for the same. */
  function noteWait(text: string): void {
    if (text !== noted) progress.note(text)
    noted = text
  }
}

const toRefused = (line: InputLine): RefusedLine => ({ line, reason: line.reason as string })

const byLine = (one: RefusedLine, other: RefusedLine) => one.line.number - other.line.number

/** Bytes to read; undefined when nobody knows. */
function sizeOf(inputs: readonly Input[]): number | undefined {
  if (!inputs.every(({ stats }) => stats?.isFile() === true)) return undefined
  return inputs.reduce((sum, { stats }) => sum + (stats?.size ?? 0), 0)
}
