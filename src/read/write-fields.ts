import type { StoredRecord } from '../data/select-records.ts'
import { pick, type Wanted } from '../lib/json/pick.ts'
import { toRfc3339 } from '../lib/pg-time.ts'
import type { Field } from './fields.ts'
import { cursorOf, timeOf } from './write-record.ts'

/** How to read the members of a record. Those of JSON are objects or any value, as JSON text; the others are text. */
const READ: Record<Field['root'], (record: StoredRecord) => string | null> = {
  specversion: () => '1.0',
  source: ({ source }) => source,
  id: ({ id }) => id,
  type: ({ type }) => type,
  time: timeOf,
  subject: ({ subject }) => subject,
  dataschema: ({ dataschema }) => dataschema,
  datacontenttype: ({ datacontenttype }) => datacontenttype,
  extensions: ({ extensions }) => extensions,
  data: ({ data }) => data,
  data_base64: ({ data_base64 }) => data_base64,
  receivedAt: ({ received_at }) => toRfc3339(received_at),
  cursor: cursorOf,
}

const isJson = (root: string) => root === 'data' || root === 'extensions'

/**
 * Returns a function that writes records as JSON with these fields, each where a record has it. All have the same members: what a
 * record does not have is null.
 */
export function jsonWriter(fields: readonly Field[]): (record: StoredRecord) => string {
  const tree = treeOf(fields)
  const read = reader(fields, tree)
  const { texts, order } = templateOf(tree)
  const write = fields.map(({ root }) => (isJson(root) ? (value: string) => value : JSON.stringify))
  return (record) => {
    const values = read(record)
    let text = texts[0] as string
    for (const [at, field] of order.entries()) {
      const value = values[field]
      text += `${value == null ? 'null' : write[field]?.(value)}${texts[at + 1]}`
    }
    return text
  }
}

/** Returns a function that reads the cells of a row of CSV. Strings have no quotes, and null is like absent. */
export function cellReader(fields: readonly Field[]): (record: StoredRecord) => (string | null)[] {
  const read = reader(fields, treeOf(fields))
  const areJson = fields.map(({ root }) => isJson(root))
  return (record) => {
    const cells = read(record).map((value, at) => (value !== null && areJson[at] ? textOf(value) : value))
    // An empty line would be no row.
    return cells.length === 1 ? [cells[0] ?? ''] : cells
  }
}

function textOf(json: string): string | null {
  if (json.startsWith('"')) return JSON.parse(json)
  return json === 'null' ? null : json
}

/** The members of records that are wanted, by the index of their field. */
function treeOf(fields: readonly Field[]): Map<string, Wanted> {
  const tree = new Map<string, Wanted>()
  for (const [at, { root, path }] of fields.entries()) {
    const names = [root, ...path]
    let members = tree
    for (const name of names.slice(0, -1)) {
      const inner = (members.get(name) as Map<string, Wanted> | undefined) ?? new Map<string, Wanted>()
      members.set(name, inner)
      members = inner
    }
    members.set(names.at(-1) as string, at)
  }
  return tree
}

/** Returns a function that reads the fields of a record, those within JSON as JSON text. */
function reader(fields: readonly Field[], tree: Map<string, Wanted>): (record: StoredRecord) => (string | null)[] {
  const roots = [...tree] as [Field['root'], Wanted][]
  return (record) => {
    const values = new Array<string | null>(fields.length).fill(null)
    for (const [root, wanted] of roots) {
      const value = READ[root](record)
      if (typeof wanted === 'number') values[wanted] = value
      else if (value !== null) pick(value, wanted, values)
    }
    return values
  }
}

/** The texts before, between and after the values, and the order of the values. */
function templateOf(tree: Map<string, Wanted>): { texts: string[]; order: number[] } {
  const texts = ['']
  const order: number[] = []
  const add = (text: string) => texts.push(`${texts.pop()}${text}`)
  write(tree)
  return { texts, order }

  function write(value: Wanted): void {
    if (typeof value === 'number') {
      order.push(value)
      texts.push('')
      return
    }
    let separator = '{'
    for (const [name, inner] of value) {
      add(`${separator}${JSON.stringify(name)}:`)
      write(inner)
      separator = ','
    }
    add('}')
  }
}
