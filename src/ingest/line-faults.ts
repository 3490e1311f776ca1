import type { LongLine } from '../lib/line-cutter.ts'
import type { Fault } from '../problems.ts'
import { invalidAt } from './body.ts'
import { type RecordLimits, tooLarge } from './json-records.ts'

const AS_JSON = 'If the body is a JSON array, send it with Content-Type: application/json.'

export function notUtf8(bytes: Buffer, line: number): Fault {
  return { pointer: '', code: 'invalid_utf8', detail: `The line is not UTF-8: ${invalidAt(bytes, line === 1)}` }
}

export function tooLong({ line, length, start }: LongLine, limits: RecordLimits): Fault {
  return lineFault({ pointer: '', code: 'record_too_large', detail: tooLarge(length, limits) }, start.toString(), line)
}

/** The fault of a line that may be a part of a JSON array: the whole of it, or its first line. */
export function lineFault(fault: Fault, text: string | Buffer, line: number): Fault {
  const isArray = line === 1 && typeof text === 'string' && /^\ufeff?\s*\[/.test(text)
  return isArray && !fault.detail.includes('application/json')
    ? { ...fault, detail: `${fault.detail} ${AS_JSON}` }
    : fault
}
