import { isUtf8 } from 'node:buffer'
import type { Readable } from 'node:stream'
import { Bytes } from '../lib/gathered-bytes.ts'
import { PAGE_HEAD_SIZE, pageArrayAt } from '../lib/json/page.ts'
import { encodingHint, formatHint } from '../lib/looks-like.ts'
import { Problem } from '../problems.ts'
import { abandon, inflaterBytes, toBodyProblem } from './inflate.ts'
import { ADDED_BYTES } from './json-records.ts'

export interface BodyLimits {
  maxBatchBytes: number
  /** For a body that is a single record. */
  maxRecordBytes: number
  /** What the sender of a body that is too large can do, as a sentence. */
  advice?: { batch: string; record: string }
}

const OPEN_OBJECT = 0x7b

/**
 * Reads a whole body and counts the bytes that arrive, whatever Content-Length says. If Content-Length is already too
 * large, or `reserve` throws, it throws synchronously, before anything is read.
 * @param declared Content-Length, or 0 if there is none
 * @param reserve reserves memory: called with the total bytes that the body needs now; may throw
 * @throws Problem body_too_large, incomplete_body, corrupt_encoding, inflates_too_far, request_timeout; what `reserve` throws
 */
export function readBody(
  stream: Readable,
  declared: number,
  limits: BodyLimits,
  reserve: (bytes: number) => void,
): Promise<Buffer> {
  if (declared > limits.maxBatchBytes) throw tooLarge(limits, 'batch', declared)
  // Content-Length is reserved at once: otherwise many slow uploads could each pass the check and together exceed the memory.
  reserve(declared)
  return collect(stream, declared, limits, (bytes) => {
    if (bytes > declared) reserve(bytes)
  })
}

/** Uses listeners because `for await` costs a promise per chunk, and most bodies are one chunk. */
function collect(
  stream: Readable,
  declared: number,
  limits: BodyLimits,
  onSize: (bytes: number) => void,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const gathered = new Bytes(declared)
    const recordLimit = Math.min(limits.maxRecordBytes, limits.maxBatchBytes)
    let kind: 'record' | 'batch' | undefined

    stream.on('data', onData).on('end', onEnd).on('error', onLost).on('close', onLost)

    function onData(chunk: Buffer): void {
      kind ??= kindOf(chunk)
      const bytes = gathered.length + chunk.length
      try {
        // The size limit comes first: a body that is too large must not get a retryable problem from `onSize`.
        if (bytes > recordLimit) checkSize(bytes, chunk)
        onSize(bytes + inflaterBytes(stream))
        gathered.add(chunk)
      } catch (error) {
        settle(() => reject(error))
        abandon(stream)
      }
    }
    function checkSize(bytes: number, chunk: Buffer): void {
      if (kind === 'record' && bytes > recordLimit + ADDED_BYTES) {
        // A page of records is an object too.
        const parts = [gathered.start(PAGE_HEAD_SIZE), chunk.subarray(0, PAGE_HEAD_SIZE)]
        if (pageArrayAt(Buffer.concat(parts).toString('latin1'), 0) === -1) throw tooLarge(limits, 'record')
        kind = 'batch'
      }
      if (bytes > limits.maxBatchBytes) throw tooLarge(limits, 'batch')
    }
    function onEnd(): void {
      const body = gathered.take()
      // Only a record that was read may be larger, and it has a cursor: the check of the record decides.
      const fits = kind !== 'record' || body.length <= recordLimit || body.includes('"cursor"')
      settle(() => (fits ? resolve(body) : reject(tooLarge(limits, 'record', body.length))))
    }
    function onLost(cause?: Error): void {
      settle(() => reject(toBodyProblem(cause)))
      abandon(stream)
    }
    function settle(conclude: () => void): void {
      stream.off('data', onData).off('end', onEnd).off('error', onLost).off('close', onLost)
      conclude()
    }
  })
}

/** The first character that is not white space decides. @returns undefined if there is none */
function kindOf(chunk: Buffer): 'record' | 'batch' | undefined {
  const first = chunk.find((byte) => byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09)
  return first === undefined ? undefined : first === OPEN_OBJECT ? 'record' : 'batch'
}

/** Some programs on Windows write a byte order mark at the start of a file. It is not part of the text (RFC 8259, section 8.1). */
export const stripByteOrderMark = (text: string) => (text.charCodeAt(0) === 0xfeff ? text.slice(1) : text)

const RECORDS = 'a record or an array of records, such as {"source":"shop","type":"order.placed","data":{"total":12.5}}'

/**
 * @param expected what the body must contain, for the error message
 * @throws Problem empty_body, invalid_utf8
 */
export function decodeText(content: Buffer, expected = RECORDS): string {
  if (content.length === 0)
    throw new Problem(
      'empty_body',
      `The body is empty. Expected: ${expected}. The variable or the file that it comes from may be empty.`,
    )
  if (isUtf8(content)) return stripByteOrderMark(content.toString('utf8'))
  throw new Problem('invalid_utf8', `The body is not UTF-8: ${invalidAt(content, true)}`)
}

/**
 * Where bytes stop being UTF-8, and what they seem to be, as the end of a sentence.
 * @param isStart whether they are the first bytes of the body
 */
export function invalidAt(bytes: Buffer, isStart: boolean): string {
  const offset = firstInvalid(bytes)
  const format = isStart ? formatHint(bytes) : undefined
  const hint = format ?? (isCut(bytes, offset) ? 'It ends within a character: send all of it' : encodingHint(bytes))
  return `no valid character starts at byte offset ${offset}.${hint === undefined ? '' : ` ${hint}.`}`
}

/** @param bytes the size of the body, if it is known */
function tooLarge(limits: BodyLimits, kind: 'batch' | 'record', bytes?: number): Problem {
  const { maxBatchBytes, maxRecordBytes, advice } = limits
  const max = kind === 'batch' ? maxBatchBytes : Math.min(maxBatchBytes, maxRecordBytes)
  const size =
    bytes === undefined ? `is larger than ${max} bytes` : `has ${bytes} bytes, but at most ${max} are allowed`
  return new Problem(
    'body_too_large',
    [`The body ${size}. Nothing was written.`, advice?.[kind]].filter(Boolean).join(' '),
  )
}

/** Whether the bytes end before the last byte of a character. Its first byte says how many it has (RFC 3629, section 3). */
function isCut(bytes: Buffer, offset: number): boolean {
  const first = bytes[offset] as number
  const length = first < 0xc2 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 1
  return offset > 0 && offset + length > bytes.length
}

/** Byte offset of the first invalid character; the body must have one. A binary search, because there may be millions of characters. */
function firstInvalid(body: Buffer): number {
  let [start, end] = [0, body.length]
  while (end - start > 8) {
    let middle = (start + end) >> 1
    // Move back to the first byte of a character: at most three bytes follow it.
    for (let back = 0; back < 3 && ((body[middle] as number) & 0xc0) === 0x80; back++) middle--
    if (isUtf8(body.subarray(start, middle))) start = middle
    else end = middle
  }
  for (;;) {
    const isCharacter = (length: number) =>
      start + length <= body.length && isUtf8(body.subarray(start, start + length))
    const length = [1, 2, 3, 4].find(isCharacter)
    if (length === undefined) return start
    start += length
  }
}
