import { once } from 'node:events'
import { readName } from './compression.ts'
import type { Input } from './input.ts'
import { type Output, openOutput } from './output.ts'
import type { RefusedLine } from './store-lines.ts'

/** What is told on stderr; more than a screen is for a file. */
const SHOWN = 20

/** Keeps the refused lines: those of `path` as they stand in the input, to be mended and loaded. */
export interface RefusedLines {
  add(input: Input, refused: readonly RefusedLine[]): Promise<void>
  /** The first reasons. */
  shown: string[]
  /** The files appear, even when nothing was refused: what they held was of another run. */
  close(): Promise<void>
}

/**
 * `path` gets the lines, `path.reasons` a line for each of them, in the same order. Without `path` only the first reasons
 * are kept.
 */
export async function openRefusedLines(path: string | undefined): Promise<RefusedLines> {
  const outputs = path === undefined ? [] : [await openOutput(path), await openOutput(reasonsOf(path))]
  const [lines, reasons] = outputs
  const shown: string[] = []
  let headed = false
  let omitted = 0

  return {
    shown,
    async add(input, refused) {
      const { header } = input.format
      if (!headed && refused.length > 0 && header !== undefined) {
        headed = true
        await write(lines, header)
      }
      for (const { line, reason } of refused) {
        const told = `${input.name}:${line.number}: ${reason}`
        if (shown.length < SHOWN) shown.push(told)
        else if (++omitted === 1) shown.push('')
        if (omitted > 0) shown[SHOWN] = `… and ${omitted.toLocaleString('en')} more; --rejected FILE keeps them all`
        await write(lines, line.original)
        await write(reasons, told)
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
  // A full disk: what is refused from now on would be kept nowhere.
  if (stream.errored) throw new Error('The refused lines cannot be written', { cause: stream.errored })
  if (!stream.write('\n')) await once(stream, 'drain')
}
