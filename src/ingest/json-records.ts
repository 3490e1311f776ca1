import type { Row } from '../data/row.ts'
import { type Fault, Problem } from '../lib/problems.ts'
import { type Defaults, readEnvelope } from './envelope.ts'
import { type Extent, findExtents, findRepeatedName, MAX_DEPTH, NO_EXTENT } from './json.ts'
import { parseJson } from './parse-json.ts'
import { findUnstorable, pointerToken } from './storable.ts'

export interface RecordLimits {
  maxRecordBytes: number
  maxBatchRecords: number
}

/** What a body holds: for each record, in order, its row or what is wrong with it. */
export interface Batch {
  /** Was it a single object, not an array? */
  single: boolean
  records: (Row | Fault)[]
}

export const isFault = (record: Row | Fault): record is Fault => 'code' in record

/** What the format allows at the top, and what it asks of each record. */
export interface JsonFormat {
  top: 'object' | 'array' | 'either'
  /** Attributes that a record must have beyond those of the schema. */
  required: readonly string[]
}

/** application/json */
export const PLAIN: JsonFormat = { top: 'either', required: [] }

/**
 * Reads one record or an array of records.
 * Parsed once, for the checks; the payloads of the rows are slices of the text, since JSON.parse rounds what a double
 * cannot hold.
 * @throws Problem invalid_json, too_deep, too_complex, wrong_type, too_many_records
 */
export function readJsonRecords(
  text: string,
  format: JsonFormat,
  limits: RecordLimits,
  defaultsFor: (single: boolean) => Defaults,
): Batch {
  const parsed = parseJson(text)
  const found = Array.isArray(parsed) ? 'array' : typeof parsed === 'object' && parsed !== null ? 'object' : 'neither'
  if (found === 'neither' || (format.top !== 'either' && format.top !== found)) {
    const wanted = { object: 'object', array: 'array of objects', either: 'object (a record) or an array of them' }
    throw new Problem('wrong_type', `The body must be a JSON ${wanted[format.top]}.`)
  }
  const single = found === 'object'
  const values = single ? [parsed] : (parsed as unknown[])
  if (values.length > limits.maxBatchRecords) {
    throw new Problem(
      'too_many_records',
      `The batch holds ${values.length} records; at most ${limits.maxBatchRecords} are taken at once.`,
    )
  }
  const extents = findExtents(text)
  const defaults = defaultsFor(single)
  return {
    single,
    records: values.map((value, index) => {
      const record =
        findMissing(value, index, format) ?? readRecord(text, value, extents[index] as Extent, index, limits, defaults)
      return identify(record, value)
    }),
  }
}

/** Reads a record that is a text of its own, such as a line. */
export function readRecordText(text: string, index: number, limits: RecordLimits, defaults: Defaults): Row | Fault {
  try {
    const value = parseJson(text, 'line')
    // A line that is an array has as many extents as elements; it is refused for what it is.
    const extent = Array.isArray(value) ? NO_EXTENT : (findExtents(text)[0] as Extent)
    return identify(readRecord(text, value, extent, index, limits, defaults), value)
  } catch (error) {
    if (!(error instanceof Problem)) throw error
    return { index, pointer: '', code: error.code, detail: error.message }
  }
}

/** Says of a record that is refused which one it is, as far as that can be read. */
function identify(record: Row | Fault, value: unknown): Row | Fault {
  if (!isFault(record) || typeof value !== 'object' || value === null) return record
  const { source, id } = value as Record<string, unknown>
  const isName = (name: unknown) => typeof name === 'string' && name.length <= 512 && name.isWellFormed()
  return {
    ...record,
    ...(isName(source) ? { source: source as string } : {}),
    ...(isName(id) ? { id: id as string } : {}),
  }
}

function findMissing(value: unknown, index: number, { required }: JsonFormat): Fault | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const name = required.find((one) => (value as Record<string, unknown>)[one] == null)
  if (name === undefined) return undefined
  return { index, pointer: `/${name}`, code: 'required', detail: `${name} is required in a CloudEvent.` }
}

function readRecord(
  text: string,
  value: unknown,
  extent: Extent,
  index: number,
  limits: RecordLimits,
  defaults: Defaults,
): Row | Fault {
  if (isLonger(text, extent, limits.maxRecordBytes)) {
    return {
      index,
      pointer: '',
      code: 'record_too_large',
      detail: `The record is larger than ${limits.maxRecordBytes} bytes.`,
    }
  }
  if (extent.tooDeep) {
    return {
      index,
      pointer: '/data',
      code: 'too_deep',
      detail: `The data is nested more than ${MAX_DEPTH} levels deep.`,
    }
  }
  const members = extent.members
  if (members > 0 && members !== Object.keys(value as object).length) {
    const name = findRepeatedName(text, extent.start)
    return {
      index,
      pointer: `/${pointerToken(name)}`,
      code: 'repeated_field',
      detail: 'The field occurs twice in the record, and only one of them can be meant.',
    }
  }
  const row = readEnvelope(value, index, defaults)
  if (isFault(row)) return row
  // CloudEvents JSON format, section 2.2. As a double, 1.00000000000000000001 has become 1 by now.
  if (extent.fractional !== undefined) {
    return {
      index,
      pointer: `/${pointerToken(extent.fractional)}`,
      code: 'wrong_type',
      detail: 'The number of an attribute is an integer, written without fraction and exponent.',
    }
  }
  if (extent.dataEnd === 0) return row

  row.data = text.slice(extent.dataStart, extent.dataEnd)
  if (extent.suspicious) {
    const found = findUnstorable(row.data, '/data')
    if (found !== undefined) return { index, ...found }
  }
  return row
}

/** In bytes of UTF-8, which are at least one and at most three a UTF-16 unit: counted only where that does not decide. */
function isLonger(text: string, { start, end }: Extent, max: number): boolean {
  if ((end - start) * 3 <= max) return false
  return end - start > max || Buffer.byteLength(text.slice(start, end)) > max
}
