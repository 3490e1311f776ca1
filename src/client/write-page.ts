import type { FeedPage } from './feed.ts'
import { describeRecord } from './record-line.ts'

/** The program that reads stdout has closed it. */
export class ReaderGone extends Error {}

/** Of a terminal that does not say how wide it is. */
const DEFAULT_COLUMNS = 80

/** In characters. After a signal, only a few more portions are written. */
const PORTION = 65_536

/**
 * Writes the records of a page to stdout, or some of them if it is stopped. Waits until the operating system has taken them: a slow
 * reader slows the caller down.
 * @returns the offset up to which it wrote
 * @throws ReaderGone; Error with a sentence if stdout cannot be written
 */
export async function writePage({ records, next }: FeedPage, stop: AbortSignal): Promise<string> {
  const { isTTY, columns } = process.stdout
  let portion = ''
  for (const [index, { text, cursor }] of records.entries()) {
    portion += `${isTTY ? describeRecord(text, columns || DEFAULT_COLUMNS) : text}\n`
    if (portion.length < PORTION && index + 1 < records.length) continue
    await write(portion)
    if (stop.aborted) return cursor
    portion = ''
  }
  return next
}

/** Only a write notices that the reader has closed a pipe: Node.js cannot poll a pipe, and writing nothing to it succeeds. */
function write(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (cause) => {
      if (cause == null) resolve()
      else if ((cause as NodeJS.ErrnoException).code === 'EPIPE') reject(new ReaderGone('', { cause }))
      else reject(new Error('stdout cannot be written', { cause }))
    })
  })
}
