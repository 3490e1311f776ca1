import { quoted } from '../../lib/printable.ts'
import { attributesOf, type Cell, constantsOf, type Mapping, makeUnfit, member, PAYLOADS } from '../mapping.ts'
import { planObjects } from '../objects/mapping.ts'
import { cellReader, type ReadCell, readJson } from './values.ts'

/** Converts a row of CSV into a record in JSON, or says why it cannot. */
export type ToRecord = (cells: readonly Cell[]) => { record: string } | { reason: string }

/**
 * Plans how the rows of a file become records.
 * @param exported whether it is a file of `sluice export`
 * @throws Error with a sentence if the header does not fit the mapping
 */
export function planRecords(header: readonly string[], mapping: Mapping, exported: boolean): ToRecord {
  if (exported) return fromExport(header, mapping)

  const columns = header.map((name, at) => ({ name, at, read: cellReader({ name, at }, mapping) }))
  const attributes = findAttributes(columns, mapping)
  const mapped = new Set(attributes.values())
  const hasPayload = PAYLOADS.some((name) => attributes.has(name))
  const members = columns.filter((column) => !mapped.has(column) && !(hasPayload && mapping.set.has(column.name)))
  const [unmapped] = members
  if (unmapped !== undefined && hasPayload)
    throw new Error(`with --map data=… every other column must be mapped too, but ${quoted(unmapped.name)} is not`)
  const constants = constantsOf(mapping)

  return (cells) => {
    if (cells.length !== header.length) return wrongLength(cells, header)
    const parts = [...constants]
    for (const [name, column] of attributes) {
      const cell = cells[column.at] ?? ''
      // An attribute is never empty text, but data may be.
      if (cell === '' && name !== 'data') continue
      const read = name === 'time' ? readTime(cell, column, mapping) : column.read(cell)
      if ('reason' in read) return read
      if (read.json !== null) parts.push(member(name, read.json))
    }
    const data: string[] = []
    for (const { name, at, read } of members) {
      const value = read(cells[at])
      if ('reason' in value) return value
      data.push(member(name, value.json ?? 'null'))
    }
    if (members.length > 0) parts.push(`"data":{${data.join()}}`)
    return { record: `{${parts.join()}}` }
  }
}

interface Column {
  name: string
  /** Its index in a row. */
  at: number
  read: ReadCell
}

function readTime(cell: string, { name, read }: Column, { readTime, nulls }: Mapping): ReturnType<ReadCell> {
  if (readTime === undefined || nulls?.has(cell)) return read(cell)
  const time = readTime(cell)
  return 'time' in time ? { json: JSON.stringify(time.time) } : { reason: `${quoted(name)}: ${time.reason}` }
}

/**
 * The column of each attribute that has one.
 * @throws Error with everything that the options name and the header does not have, or the other way around
 */
function findAttributes(columns: readonly Column[], mapping: Mapping): Map<string, Column> {
  const { map, set, json, numbers = [] } = mapping
  const byName = new Map(columns.map((column) => [column.name, column]))
  const attributes = [...attributesOf(mapping)].flatMap(([name, from]) => {
    const column = byName.get(from)
    return column === undefined ? [] : [[name, column] as const]
  })
  const unknown = new Set([...map.values(), ...json, ...numbers].filter((name) => name !== '' && !byName.has(name)))
  const missing = ['source', 'type'].filter(
    (name) => !set.has(name) && !map.get(name) && !attributes.some(([attribute]) => attribute === name),
  )
  if (unknown.size + missing.length > 0) {
    const problems = unknown.size === 0 ? [] : [`it has no column ${[...unknown].map(quoted).join(', ')}`]
    throw makeUnfit(problems, missing, 'column', [...byName.keys()])
  }
  return new Map(attributes)
}

/**
 * For files of `sluice export`: `data` and `extensions` are JSON, and an empty cell without quotes means that the member is
 * absent. Then --set adds attributes, as to any record.
 */
function fromExport(header: readonly string[], mapping: Mapping): ToRecord {
  const plan = planObjects(mapping)
  return (cells) => {
    const made = toExportedRecord(cells, header)
    return plan === undefined || 'reason' in made ? made : plan(Buffer.from(made.record))
  }
}

function toExportedRecord(cells: readonly Cell[], header: readonly string[]): ReturnType<ToRecord> {
  if (cells.length !== header.length) return wrongLength(cells, header)
  const parts: string[] = []
  for (const [at, name] of header.entries()) {
    const cell = cells[at]
    // Without the cursor, which may have been removed from the file, the server would refuse a time of receipt.
    if (cell === undefined || cell === null || name === 'receivedAt') continue
    if (name === 'data' || name === 'extensions') {
      const read = readJson(cell, name)
      if ('reason' in read) return read
      const value = read.json ?? 'null'
      if (name === 'extensions' && !value.startsWith('{')) return { reason: `${quoted(name)} is not an object.` }
      // Extension attributes are members of the record, so the braces are removed.
      const text = name === 'data' ? member(name, value) : value.slice(1, -1).trim()
      if (text !== '') parts.push(text)
    } else if (cell !== '' || name === 'data_base64') parts.push(member(name, JSON.stringify(cell)))
  }
  return { record: `{${parts.join()}}` }
}

function wrongLength(cells: readonly Cell[], header: readonly string[]): { reason: string } {
  return { reason: `It has ${cells.length} cells, but the header has ${header.length}.` }
}
