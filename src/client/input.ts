import { createReadStream, type Stats } from 'node:fs'
import { stat } from 'node:fs/promises'
import { inflateByName, readName } from './compression.ts'
import { csv, DEFAULT_DELIMITER } from './csv.ts'
import { checkEncoding } from './encoding.ts'
import { JSON_VALUES } from './json.ts'
import { type FileFormat, NDJSON, type Piece } from './lines.ts'
import type { Mapping } from './mapping.ts'
import { objects } from './objects.ts'

export const FORMAT_NAMES = ['ndjson', 'json', 'csv', 'tsv'] as const
export type FileFormatName = (typeof FORMAT_NAMES)[number]

interface InputOptions {
  /** The format of all inputs; absent: chosen by the name of each. */
  format?: FileFormatName | undefined
  /** Of CSV; absent: as the format says. */
  delimiter?: string | undefined
  mapping: Mapping
}

/** A file or stdin. */
export interface Input {
  name: string
  /** The result of stat; undefined: stdin. */
  stats: Stats | undefined
  formatName: FileFormatName
  format: FileFormat
  /** Bytes and records that were read so far. */
  byteOffset: number
  records: number
  /** What `checkInput` has read of a pipe. */
  begun: { pieces: Piece[]; rest: AsyncGenerator<Piece> } | undefined
}

/** An input is damaged, incomplete, or not what the options say. Reading it again would fail again. */
export class Unreadable extends Error {}

/** The size of a read. Each one costs an iteration of the event loop. */
const BLOCK_BYTES = 256 * 1024

/** @throws if it does not exist or is a folder */
export async function openInput(name: string, options: InputOptions): Promise<Input> {
  const stats = name === '-' ? undefined : await statOf(name)
  const formatName = options.format ?? formatByName(name)
  const format = makeFormat(formatName, options)
  return { name: name === '-' ? 'stdin' : name, stats, formatName, format, byteOffset: 0, records: 0, begun: undefined }
}

function makeFormat(name: FileFormatName, { delimiter, mapping }: InputOptions): FileFormat {
  if (name === 'csv' || name === 'tsv')
    return csv(delimiter ?? (name === 'csv' ? DEFAULT_DELIMITER : '\t'), mapping, delimiter !== undefined)
  return objects(name === 'json' ? JSON_VALUES : NDJSON, mapping)
}

/**
 * Reads the beginning of an input, which shows whether it fits the options. A file is read again later. Of a pipe, which cannot be
 * read again, the beginning is kept.
 * @throws like `readInput`
 */
export async function checkInput(input: Input, options: InputOptions, stop: AbortSignal): Promise<void> {
  const isFile = input.stats?.isFile() === true
  const rest = readPieces(isFile ? await openInput(input.name, options) : input, stop)
  const pieces: Piece[] = []
  let next = await rest.next()
  while (next.done !== true) {
    pieces.push(next.value)
    // Before the header of CSV is complete, a piece is empty.
    if (next.value.lines.length > 0) break
    next = await rest.next()
  }
  if (isFile) await rest.return(undefined)
  else input.begun = { pieces, rest }
}

/**
 * Reads the pieces of an input.
 * @param stop ends the input at once, without an error
 * @throws if it cannot be read to its end, with its name and the last line that was read
 */
export async function* readInput(input: Input, stop: AbortSignal): AsyncGenerator<Piece> {
  const { pieces, rest } = input.begun ?? { pieces: [], rest: readPieces(input, stop) }
  yield* pieces
  yield* rest
}

async function* readPieces(input: Input, stop: AbortSignal): AsyncGenerator<Piece> {
  const stream =
    input.stats === undefined ? process.stdin : createReadStream(input.name, { highWaterMark: BLOCK_BYTES })
  // Needed for a terminal or a pipe, which may send nothing for a long time.
  const end = () => stream.destroy()
  stop.addEventListener('abort', end)
  let reached = 0
  try {
    if (stop.aborted) return
    const content = inflateByName(bytes(), readName(input.name).extensions)
    for await (const piece of input.format.read(checkEncoding(content))) {
      reached = piece.reached
      input.records += piece.lines.length
      yield piece
    }
  } catch (error) {
    if (stop.aborted) return
    const where =
      input.records === 0
        ? 'cannot be loaded'
        : `cannot be read ${reached === 0 ? 'to its end' : `beyond line ${reached}`}`
    throw new Unreadable(`${input.name} ${where}`, { cause: error })
  } finally {
    stop.removeEventListener('abort', end)
    stream.destroy()
  }

  async function* bytes(): AsyncGenerator<Buffer> {
    for await (const chunk of stream) {
      input.byteOffset += chunk.length
      yield chunk
    }
  }
}

async function statOf(name: string): Promise<Stats> {
  const stats = await stat(name).catch((error: NodeJS.ErrnoException) => {
    throw new Error(error.code === 'ENOENT' ? `There is no file ${name}` : `${name} cannot be read (${error.code})`)
  })
  if (stats.isDirectory()) throw new Error(`${name} is a folder; specify the files in it`)
  return stats
}

export function formatByName(path: string): FileFormatName {
  const { name } = readName(path.toLowerCase())
  if (name.endsWith('.tab')) return 'tsv'
  return FORMAT_NAMES.find((format) => name.endsWith(`.${format}`)) ?? 'ndjson'
}
