import { createWriteStream } from 'node:fs'
import { rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { PassThrough, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { deflateByName } from './compression.ts'

/** A file that appears under its name only when it is complete. */
export interface Output {
  /** Takes the content, which is compressed as the file name says. */
  stream: Writable
  /** Ends the stream and gives the file its name. Replaces an existing file. */
  commit(): Promise<void>
  /** Deletes what was written. */
  discard(): Promise<void>
}

/** @throws if the file cannot be written */
export async function openOutput(path: string): Promise<Output> {
  const there = await stat(path).catch(() => undefined)
  if (there?.isDirectory()) throw new Error(`${path} is a folder; specify a file`)
  // A device or a pipe is written directly, not replaced.
  const direct = there !== undefined && !there.isFile()
  const target = direct ? path : join(dirname(path), `.${basename(path)}.${process.pid}.part`)
  const file = createWriteStream(target, { flags: direct ? 'w' : 'wx' })
  await new Promise<void>((resolve, reject) => {
    file.once('open', () => resolve())
    file.once('error', (cause) => reject(new Error(`${path} cannot be written`, { cause })))
  })
  const stream = new PassThrough()
  const written = pipeline([stream, ...deflateByName(path), file])
  // `commit` and `discard` handle the error.
  written.catch(() => {})
  stream.on('error', () => {})
  return {
    stream,
    async commit() {
      stream.end()
      await written
      if (!direct) await rename(target, path)
    },
    async discard() {
      stream.destroy()
      await written.catch(() => {})
      if (!direct) await rm(target, { force: true })
    },
  }
}
