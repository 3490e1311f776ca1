import t from 'tap'
import { csv } from '../../../src/client/csv.ts'
import { timeReader } from '../../../src/client/times.ts'
import { CSV_COLUMNS } from '../../../src/schemas/csv.ts'

interface Found {
  number: number
  /** The cells of a record, or why it is not a record. */
  is: unknown
  original: string
}

const plain = { map: new Map(), json: new Set<string>() }

/** The rows of a file whose cells are all data. */
async function read(text: string, size = 4096, delimiter = ','): Promise<Found[]> {
  const bytes = Buffer.from(text)
  async function* blocks() {
    for (let at = 0; at < bytes.length; at += size) yield Buffer.from(bytes.subarray(at, at + size))
  }
  const set = new Map(Object.entries({ source: 's', type: 't' }))
  const found: Found[] = []
  for await (const { lines } of csv(delimiter, { ...plain, set }).read(blocks())) {
    for (const { number, record, reason, original } of lines)
      found.push({
        number,
        is: reason ?? Object.values(JSON.parse(String(record)).data),
        original: original.toString(),
      })
  }
  return found
}

const NEVER_CLOSED = 'A quote that opens in it is never closed.'
const TEXT_AFTER_QUOTE = 'There is text after a closing quote. Within quotes, write a quote as "".'
const SPACE_BEFORE_QUOTE = 'There is white space between a delimiter and a quote. Remove it.'

// Every quote opened or closed a cell, so that one stray quote joined all rows up to the next one.
t.test('one bad row harms one row', async (t) => {
  for (const [text, ...expected] of [
    // A quote that is not at the start of a cell is text.
    ['a,b\n1,5" pipe\n2,x\n', [2, ['1', '5" pipe']], [3, ['2', 'x']]],
    ['a,b\n1,a "b" c"\n2,x\n', [2, ['1', 'a "b" c"']], [3, ['2', 'x']]],
    ['a,b\n5",6"\n2,"x""y"\n', [2, ['5"', '6"']], [3, ['2', 'x"y']]],
    // Text after a closing quote.
    ['a,b\n1,"x"y\n2,z\n', [2, TEXT_AFTER_QUOTE], [3, ['2', 'z']]],
    ['a,b\n1,"he said "hi""\n2,z\n', [2, TEXT_AFTER_QUOTE], [3, ['2', 'z']]],
    ['a,b\n1,"x"y"\n2,z\n3,"w"\n', [2, TEXT_AFTER_QUOTE], [3, ['2', 'z']], [4, ['3', 'w']]],
    ['a,b\n1,"x "y" of\nthree, or more\nlines"\n2,z\n', [2, TEXT_AFTER_QUOTE], [5, ['2', 'z']]],
    // White space before a quote: it may be meant as one.
    ['a,b\n1, "x"\n2,z\n', [2, SPACE_BEFORE_QUOTE], [3, ['2', 'z']]],
    ['a,b\n1, "x,\ny"\n2,z\n', [2, SPACE_BEFORE_QUOTE], [4, ['2', 'z']]],
    // A quote that is never closed, found by a later quote, or at the end.
    ['a,b\n1,"x\n2,y\n3,"z"\n4,w\n', [2, NEVER_CLOSED], [3, ['2', 'y']], [4, ['3', 'z']], [5, ['4', 'w']]],
    ['a,b\n1,"x\n2,y\n\n3,z', [2, NEVER_CLOSED], [3, ['2', 'y']], [5, ['3', 'z']]],
    ['a,b\n"1,x\n"2","y"\n"3","z\nw"\n', [2, NEVER_CLOSED], [3, ['2', 'y']], [4, ['3', 'z\nw']]],
    ['a,b\n1,"x\n2,"y\n3,z\n', [2, NEVER_CLOSED], [3, NEVER_CLOSED], [4, ['3', 'z']]],
    ['a,b\r\n1,"x\r\n2,y\r\n3,"z"\r\n', [2, NEVER_CLOSED], [3, ['2', 'y']], [4, ['3', 'z']]],
    // The lines after it are not rows, so they may be part of the cell.
    ['a,b\n1,"x\nof two "y" lines"\n2,z\n', [2, TEXT_AFTER_QUOTE], [4, ['2', 'z']]],
    // Valid rows.
    ['a,b\n"1","x\n2,""y"""\n3,""\n', [2, ['1', 'x\n2,"y"']], [4, ['3', '']]],
    ['a,b\r"1","x\r2,\n"\r3,""\r', [2, ['1', 'x\r2,\n']], [4, ['3', '']]],
  ] as [string, ...[number, unknown][]][]) {
    for (const size of [1, 5, 4096]) {
      const found = (await read(text, size)).map(({ number, is }) => [number, is])
      t.same(found, expected, `${JSON.stringify(text)}, blocks of ${size}`)
    }
  }
})

t.test('a rejected row keeps its bytes', async (t) => {
  const [bad, good] = await read('a,b\r\n1,"x\r\n2,y\r\n3,"z"\r\n')
  t.equal(bad?.original, '1,"x')
  t.equal(good?.original, '2,y')
})

t.test('a file that is cut off within a quoted cell is an error, and no part of the cell becomes a row', async (t) => {
  for (const text of ['a,b\n1,"x', 'a,b\n1,"x\ny, z\nw', 'a\n"x\ny\n'])
    await t.rejects(read(text), { message: 'a quote that opens on line 2 is never closed' }, JSON.stringify(text))
})

t.test('a quote that is never closed in a large file does not end the run', async (t) => {
  const rows = `2,${'y'.repeat(1000)}\n`.repeat(20_000)
  const found = await read(`a,b\n1,"x\n${rows}`, 256 * 1024)
  t.equal(found[0]?.is, NEVER_CLOSED)
  t.equal(found.length, 20_001)
  t.ok(found.slice(1).every(({ is }) => Array.isArray(is)))
})

t.test('the delimiter decides where a cell begins, also after a sep= line, and in more than one byte', async (t) => {
  const cells = async (text: string, delimiter: string) => (await read(text, 3, delimiter)).map(({ is }) => is)
  t.same(await cells('sep=;\na;b\n1;"x;y"\n2;,"z\n', ','), [
    ['1', 'x;y'],
    ['2', ',"z'],
  ])
  t.same(await cells('a\tb\n1\t"x\ty"\n2\t5"\n', '\t'), [
    ['1', 'x\ty'],
    ['2', '5"'],
  ])
  t.same(await cells('a¦b\n1¦"x¦y"\n2¦5"\n', '¦'), [
    ['1', 'x¦y'],
    ['2', '5"'],
  ])
})

t.test('--set adds attributes to the rows of an export, which are records', async (t) => {
  const set = new Map([['batch', 'import-7']])
  const found: string[] = []
  async function* bytes() {
    yield Buffer.from(`${CSV_COLUMNS.join()}\ns,1,t,,,,,"{""batch"":""old"",""x"":1}","{""n"":1.0}",,,\n`)
  }
  for await (const { lines } of csv(',', { ...plain, set }).read(bytes()))
    found.push(...lines.map(({ record }) => String(record)))
  t.same(found, ['{"batch":"import-7","source":"s","id":"1","type":"t","x":1,"data":{"n":1.0}}'])
})

t.test('a cell of --null has no value: in data it is null, and an attribute is absent', async (t) => {
  const mapping = {
    ...plain,
    set: new Map(Object.entries({ source: 's', type: 't' })),
    nulls: new Set(['\\N', 'N/A']),
    readTime: timeReader('iso', undefined),
  }
  const found: string[] = []
  async function* bytes() {
    yield Buffer.from('id\ttime\tn\tm\n\\N\t\\N\tN/A\tx\n')
  }
  for await (const { lines } of csv('\t', mapping).read(bytes()))
    found.push(...lines.map(({ record }) => String(record)))
  t.same(found, ['{"source":"s","type":"t","data":{"n":null,"m":"x"}}'])
})
