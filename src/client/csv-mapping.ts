import { ATTRIBUTES } from './csv-header.ts'

/** How the columns of a CSV file become records. Columns are given by name. */
export interface Mapping {
  /** Attribute → column. Empty column: the attribute is not read from the file. */
  map: ReadonlyMap<string, string>
  /** Attribute → the value in all records. */
  set: ReadonlyMap<string, string>
  /** Columns whose cells are JSON. Other cells are text. */
  json: ReadonlySet<string>
}

/** Not attributes, but they can be mapped: then the column is the whole data, and not a member of it. */
const PAYLOADS = ['data', 'data_base64']

/** A cell; null: empty, without quotes. */
export type Cell = string | null

/** Converts a row into a record in JSON, or says why it cannot. */
export type ToRecord = (cells: readonly Cell[]) => { record: string } | { reason: string }

/**
 * Plans how the rows of a file become records.
 * @param exported whether it is a file of `sluice export`
 * @throws Error with a sentence if the header does not fit the mapping
 */
export function planRecords(header: readonly string[], mapping: Mapping, exported: boolean): ToRecord {
  if (exported) return (cells) => toExportedRecord(cells, header)

  const columns = header.map((name, at) => ({ name, at, isJson: mapping.json.has(name) }))
  const attributes = readAttributes(columns, mapping)
  for (const name of ['source', 'type']) {
    if (!mapping.set.has(name) && !attributes.has(name))
      throw new Error(`no column is mapped to ${name}: use --map ${name}=COLUMN, or --set ${name}=TEXT for all records`)
  }
  for (const name of mapping.json) findColumn(columns, name)
  const mapped = new Set(attributes.values())
  const members = columns.filter((column) => !mapped.has(column))
  const [unmapped] = members
  if (unmapped !== undefined && PAYLOADS.some((name) => attributes.has(name)))
    throw new Error(`with --map data=… every other column must be mapped too, but ${unmapped.name} is not`)
  const constants = [...mapping.set].map(([name, value]) => member(name, JSON.stringify(value)))

  return (cells) => {
    if (cells.length !== header.length) return wrongLength(cells, header)
    const parts = [...constants]
    for (const [name, column] of attributes) {
      const cell = cells[column.at] ?? ''
      // An attribute is never empty text, but data may be.
      if (cell === '' && !(name === 'data' && !column.isJson)) continue
      const value = column.isJson ? toJson(cell) : JSON.stringify(cell)
      if (value === undefined) return notJson(column.name, cell)
      parts.push(member(name, value))
    }
    const data: string[] = []
    for (const { name, at, isJson } of members) {
      const cell = cells[at] ?? ''
      const value = isJson ? toJson(cell) : JSON.stringify(cell)
      if (value === undefined) return notJson(name, cell)
      data.push(member(name, value))
    }
    if (members.length > 0) parts.push(`"data":{${data.join()}}`)
    return { record: `{${parts.join()}}` }
  }
}

interface Column {
  name: string
  /** Its index in a row. */
  at: number
  isJson: boolean
}

/** The column of each attribute that has one. */
function readAttributes(columns: readonly Column[], { map, set }: Mapping): Map<string, Column> {
  const taken = new Set(map.values())
  const attributes = new Map<string, Column>()
  // In a fixed order: the Idempotency-Key, and so the ids of records without an id, depends on the text of the record.
  for (const name of ATTRIBUTES) {
    const column = columns.find((one) => one.name === name)
    if (column !== undefined && !map.has(name) && !set.has(name) && !taken.has(name)) attributes.set(name, column)
  }
  for (const [name, column] of map) {
    if (set.has(name)) throw new Error(`${name} is both mapped and set`)
    if (column !== '') attributes.set(name, findColumn(columns, column))
  }
  return attributes
}

function findColumn(columns: readonly Column[], name: string): Column {
  const found = columns.find((column) => column.name === name)
  if (found === undefined)
    throw new Error(`it has no column ${JSON.stringify(name)}; it has ${list(columns.map((column) => column.name))}`)
  return found
}

/**
 * For files of `sluice export`: `data` and `extensions` are JSON, and an empty cell without quotes means that the member is
 * absent.
 */
function toExportedRecord(cells: readonly Cell[], header: readonly string[]): ReturnType<ToRecord> {
  if (cells.length !== header.length) return wrongLength(cells, header)
  const parts: string[] = []
  for (const [at, name] of header.entries()) {
    const cell = cells[at]
    // Without the cursor, which may have been removed from the file, the server would refuse a time of receipt.
    if (cell === undefined || cell === null || name === 'receivedAt') continue
    if (name === 'data' || name === 'extensions') {
      const value = toJson(cell)
      if (value === undefined || (name === 'extensions' && !value.startsWith('{'))) return notJson(name, cell)
      // Extension attributes are members of the record, so the braces are removed.
      parts.push(name === 'data' ? member(name, value) : value.slice(1, -1))
    } else if (cell !== '' || name === 'data_base64') parts.push(member(name, JSON.stringify(cell)))
  }
  return { record: `{${parts.join()}}` }
}

const member = (name: string, value: string) => `${JSON.stringify(name)}:${value}`

const list = (names: readonly string[]) => names.map((name) => JSON.stringify(name)).join(', ')

/** The text of the cell on one line. It is not parsed, so that all digits of numbers stay. An empty cell is null. */
function toJson(cell: string): string | undefined {
  if (cell === '') return 'null'
  try {
    JSON.parse(cell)
    // In JSON a newline is white space, because strings cannot contain it.
    return cell.replaceAll(/[\r\n]/g, ' ').trim()
  } catch {
    return undefined
  }
}

function wrongLength(cells: readonly Cell[], header: readonly string[]): { reason: string } {
  return { reason: `It has ${cells.length} cells, but the header has ${header.length}.` }
}

function notJson(column: string, cell: string): { reason: string } {
  return { reason: `${JSON.stringify(cell.slice(0, 40))} in the column ${column} is not JSON.` }
}
