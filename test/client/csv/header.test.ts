import t from 'tap'
import { normalizeLineEnds } from '../../../src/client/csv/line-ends.ts'
import { csv } from '../../../src/client/csv.ts'
import { checkEncoding } from '../../../src/client/encoding.ts'
import { MAX_LINE_BYTES } from '../../../src/client/lines.ts'
import type { Mapping } from '../../../src/client/mapping.ts'
import { CSV_COLUMNS } from '../../../src/schemas/csv.ts'

type Options = { map?: Record<string, string>; set?: Record<string, string>; json?: string[]; delimiter?: string }

/** Both attributes that every record needs. */
const SET = { source: 's', type: 't' }

/** The records of a text, or why one is rejected. The text is read in blocks of this many bytes. */
async function read(text: string | Buffer, options: Options = { set: SET }, size = 1): Promise<string[]> {
  const { map = {}, set = {}, json = [], delimiter = ',' } = options
  const mapping: Mapping = { map: new Map(Object.entries(map)), set: new Map(Object.entries(set)), json: new Set(json) }
  const bytes = Buffer.from(text)
  async function* blocks() {
    for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
  }
  const found: string[] = []
  for await (const { lines } of csv(delimiter, mapping).read(checkEncoding(blocks())))
    for (const { record, reason } of lines) found.push(reason ?? String(record))
  return found
}

// Each of these loaded something else than the file says, or nothing, and exited with 0.
t.test('a header that may have been read wrongly is refused, with what to do', async (t) => {
  for (const [text, message, options] of [
    [
      'a;b;c\n1;2;3\n',
      `its header is a single column, "a;b;c". If the cells are separated by ";", use --delimiter ';'`,
    ],
    [
      'a\tb\n1\t2\n',
      `its header is a single column, "a\\tb". If the cells are separated by "\\t", use --delimiter tab`,
    ],
    ['a|b\n1|2\n', `its header is a single column, "a|b". If the cells are separated by "|", use --delimiter '|'`],
    [
      'a,b\n1,2\n',
      `its header is a single column, "a,b". If the cells are separated by ",", use --delimiter ','`,
      { set: SET, delimiter: ';' },
    ],
    ['a,"b\n1,2\n3",4\n', 'its header spans 3 lines, so it may contain rows: a quote in its first line is not closed'],
    ['a,"b\n1,2\n', 'a quote that opens on line 1 is never closed'],
    ['a,b"\n1,2"\n', 'its header cannot be read: A quote is within a name.'],
    ['a"b",c\n1,2\n', 'its header cannot be read: A quote is within a name.'],
    ['"a"b,c\n1,2\n', /^its header cannot be read: There is text after a closing quote/],
    ['a,"b\rc"\n1,2\n', /^its header spans [34] lines, so it may contain rows/],
    ['a,,c\n1,2,3\n', 'its column 2 has no name in the header'],
    ['a, ,c\n1,2,3\n', 'its column 2, " ", has no name in the header'],
    ['a,b,\n1,2,\n', 'its column 3 has no name in the header'],
    [',,\n1,2,3\n', 'its column 1 has no name in the header'],
    ['a,b,a\n1,2,3\n', 'its column 3, "a", has the same name as an earlier one'],
    ['\ufeff\ufeffid,b\n1,2\n', 'its column 1, "\\ufeffid", has a control character in its name'],
    ['a\0,b\n1,2\n', 'its column 1, "a\\u0000", has a control character in its name'],
    ['id, n\n1,2\n', 'its column 2, " n", has a name that begins or ends with a space. Remove the space'],
    [
      'ID,n\n1,2\n',
      'its column 1, "ID", differs from id only in case. Use --map id=ID, or --map id= if it is part of the data',
    ],
    ['2026-01-01T00:00:00Z,12\n', /^its column 1, "2026-01-01T00:00:00Z", looks like data/],
    ['shop,12.50\n', /^its column 2, "12.50", looks like data/],
    ['sep=;\na|b\n', `its header is a single column, "a|b". If the cells are separated by "|", use --delimiter '|'`],
    ['sep=;\na;b\n', 'its first line says sep=;, but --delimiter is |', { set: SET, delimiter: '|' }],
    ['id,data,n\n1,{},2\n', /^its column 2, "data", is a column of exports, but this is not an export/],
    ['id,cursor,n\n1,{},2\n', /^its column 2, "cursor", is a column of exports/],
    ['', 'it is empty: CSV begins with a header'],
    ['\n \r\n', 'it is empty: CSV begins with a header'],
    ['sep=;\n', 'it is empty: CSV begins with a header'],
    ['\ufeff', 'it is empty: CSV begins with a header'],
    [Buffer.from('\ufeffa,b\n1,2\n', 'utf16le'), 'it is UTF-16, not UTF-8. Save it as UTF-8'],
    [Buffer.from('a,b\n1,2\n', 'utf16le'), 'its column 1, "a\\u0000", has a control character in its name'],
    [Buffer.from('\ufeffa,b\n', 'utf16le').swap16(), 'it is UTF-16, not UTF-8. Save it as UTF-8'],
    [Buffer.from('\x1f\x8b\x08', 'latin1'), /^it is compressed with gzip/],
    [Buffer.from('\x28\xb5\x2f\xfd\x04', 'latin1'), /^it is compressed with zstd/],
    [Buffer.from('PK\x03\x04\x14', 'latin1'), /^it is a ZIP archive/],
    [Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'), 'its header cannot be read: It is not UTF-8.'],
    [`${CSV_COLUMNS.join()},note\n`, 'it has the columns of an export, and also "note". Remove these', {}],
    [
      `${CSV_COLUMNS.join()}\n`,
      'it has the columns of an export, whose rows are records: omit --map, --json, --number, and --set of source or type',
    ],
  ] as [string | Buffer, string | RegExp, Options?][]) {
    for (const size of [1, 4096]) await t.rejects(read(text, options, size), { message }, JSON.stringify(String(text)))
  }
})

t.test('a name that an option mentions is taken as it is', async (t) => {
  t.same(
    await read('ID, n,2026-01-01T00:00\n1,2,3\n', {
      set: SET,
      map: { id: 'ID', subject: ' n' },
      json: ['2026-01-01T00:00'],
    }),
    ['{"source":"s","type":"t","id":"1","subject":"2","data":{"2026-01-01T00:00":3}}'],
  )
  t.same(await read('ID,TYPE,2026\n1,2,3\n', { set: SET, map: { id: '' } }), [
    '{"source":"s","type":"t","data":{"ID":"1","TYPE":"2","2026":"3"}}',
  ])
})

t.test('lines may end with \\n, \\r\\n or \\r, and a sep= line says what is between the cells', async (t) => {
  const record = (n: string) => `{"source":"s","type":"t","id":"1","data":{"n":${JSON.stringify(n)}}}`
  for (const [text, ...expected] of [
    ['id,n\n1,2\n1,3', record('2'), record('3')],
    ['id,n\r\n1,2\r\n1,3', record('2'), record('3')],
    ['\ufeffid,n\r1,2\r\r1,3', record('2'), record('3')],
    ['id,n\r1,2\r1,3\r', record('2'), record('3')],
    ['id,n\r1,"a\nb"\r1,"a\rb\r\nc"\r', record('a\nb'), record('a\rb\r\nc')],
    ['id,n\n1,"a\rb"\n1,"a\r\nb"', record('a\rb'), record('a\r\nb')],
    ['sep=;\r\nid;n\r\n1;2,5', record('2,5')],
    ['\ufeff"SEP=\t"\nid\tn\n1\t2', record('2')],
    ['sep=;\rid;n\r1;2', record('2')],
    ['id,n\r'],
    ['id,n'],
  ] as [string, ...string[]][]) {
    for (const size of [1, 2, 3, 4096])
      t.same(await read(text, { set: SET }, size), expected, `${JSON.stringify(text)}, blocks of ${size}`)
  }
})

t.test('a row that does not fit the header is refused, and the rows beside it are not', async (t) => {
  const good = '{"source":"s","type":"t","id":"1","data":{"n":"2"}}'
  const STRAY = 'Outside quotes, it contains a \\r or \\n that does not end lines in this file.'
  for (const [text, reason] of [
    ['id,n\n1,2\n,\n1,2\n', 'All its cells are empty.'],
    ['id,n\n1,2\n,,,\n1,2\n', 'All its cells are empty.'],
    ['id,n\n1,2\n"", \n1,2\n', 'All its cells are empty.'],
    ['id,n\n1,2\n1\n1,2\n', 'It has 1 cells, but the header has 2.'],
    ['id,n\n1,2\n1,2,\n1,2\n', 'It has 3 cells, but the header has 2.'],
    ['id,n\n1,2\n1,2\r1,2\n1,2\n', STRAY],
    ['id,n\r1,2\r1,2\n1,2\r1,2\r', STRAY],
  ] as const) {
    t.same(await read(text), [good, reason, good], JSON.stringify(text))
  }
})

t.test('the columns of an export may be reordered or removed', async (t) => {
  const header = CSV_COLUMNS.toReversed()
    .filter((name) => name !== 'cursor')
    .join()
  t.same(await read(`${header}\n2026-01-01T00:00:00Z,,"{""a"":1}","{""x"":true}",,,,,t,1,s\n`, {}), [
    '{"data":{"a":1},"x":true,"type":"t","id":"1","source":"s"}',
  ])
})

// The payload became a text in a member of data, and the load succeeded.
t.test('an export of few columns is loaded as one too', async (t) => {
  for (const header of ['source,type,id,data', 'data,id,type,source', 'source,type,id,data,cursor']) {
    const cells: Record<string, string> = { source: 's', type: 't', id: '1', data: '"{""a"":1}"', cursor: '' }
    const row = header.split(',').map((name) => cells[name])
    t.match(await read(`${header}\n${row}\n`, {}), [/"data":\{"a":1\}/], header)
  }
})

// It kept everything until the first line break.
t.test('the search for the first line break ends where no row may be longer', async (t) => {
  const BLOCK = 256 * 1024
  let blocks = 0
  async function* endless() {
    for (; blocks < 1000; blocks++) yield Buffer.alloc(BLOCK, 'a')
  }
  t.equal((await normalizeLineEnds(endless())).lineEnd, '\n')
  t.equal(blocks * BLOCK, MAX_LINE_BYTES)
})
