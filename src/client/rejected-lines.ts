import { once } from 'node:events'
import { printable } from '../lib/printable.ts'
import { readName } from './compression.ts'
import type { Input } from './input.ts'
import { type Output, openOutput } from './output.ts'
import type { RejectedLine } from './store-lines.ts'

/** How many reasons are shown on stderr. For more, there is --rejected. */
const SHOWN = 20

/** Keeps the rejected lines as they are in the input, so that they can be corrected and loaded. */
export interface RejectedLines {
  add(input: Input, rejected: readonly RejectedLine[]): Promise<void>
  /** The first reasons. */
  shown: string[]
  /** Renames the files to their final names, even if they are empty, to replace the files of an earlier run. */
  close(): Promise<void>
}

/**
 * The lines go to `path`, and the reasons to `path.reasons`, one per line, in the same order. Without `path`, only the first
 * reasons are kept.
 */
export async function openRejectedLines(path: string | undefined): Promise<RejectedLines> {
  const outputs = path === undefined ? [] : [await openOutput(path), await openOutput(reasonsOf(path))]
  const [lines, reasons] = outputs
  const shown: string[] = []
  let headed = false
  let omitted = 0

  return {
    shown,
    async add(input, rejected) {
      const { header } = input.format
      if (!headed && rejected.length > 0 && header !== undefined) {
        headed = true
        await write(lines, header)
      }
      for (const { line, reason } of rejected) {
        const message = printable(`${input.name}:${line.number}: ${reason}`)
        if (shown.length < SHOWN) shown.push(message)
        else if (++omitted === 1) shown.push('')
        if (omitted > 0)
          shown[SHOWN] = `… and ${omitted.toLocaleString('en')} more; use --rejected FILE to keep all of them`
        await write(lines, line.original)
        await write(reasons, message)
      }
    },
    async close() {
      for (const output of outputs) await output.commit()
    },
  }
}

export const reasonsOf = (path: string) => `${readName(path).name}.reasons`

async function write(output: Output | undefined, line: Buffer | string): Promise<void> {
  if (output === undefined) return
  const { stream } = output
  stream.write(line)
  // For example, the disk is full. Stop here, because further rejected lines would be lost.
  if (stream.errored) throw new Error('The rejected lines cannot be written', { cause: stream.errored })
  if (!stream.write('\n')) await once(stream, 'drain')
}
