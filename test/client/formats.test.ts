import t from 'tap'
import { csv } from '../../src/client/csv.ts'
import { JSON_VALUES } from '../../src/client/json.ts'
import { type FileFormat, type InputLine, NDJSON } from '../../src/client/lines.ts'

const NOT_UTF8 = 'It is not UTF-8. Convert the file first, such as with iconv -f WINDOWS-1252 -t UTF-8.'

const plain = { map: new Map(), set: new Map(), json: new Set<string>() }

t.test('an input gives the same records with the same lines, however it is cut into blocks', async (t) => {
  for (const [name, format, text, expected] of [
    [
      'ndjson',
      () => NDJSON,
      '\ufeff{"a":1}\r\n\n {"ä":2}\n{"c":3}',
      [
        [1, '{"a":1}\r'],
        [3, ' {"ä":2}'],
        [4, '{"c":3}'],
      ],
    ],
    [
      'json',
      () => JSON_VALUES,
      '\ufeff[\n{"a":"]}\\"\\\\","ä":[[{}],1]}\n,\n{"b":\r\n{}}, 12,null,"x,y",[1]\n]\n{"c":1}{"d":2} 7',
      [
        [2, '{"a":"]}\\"\\\\","ä":[[{}],1]}'],
        [4, '{"b":  {}}'],
        [5, '12'],
        [5, 'null'],
        [5, '"x,y"'],
        [5, '[1]'],
        [7, '{"c":1}'],
        [7, '{"d":2}'],
        [7, '7'],
      ],
    ],
    ['json, empty', () => JSON_VALUES, ' [ ] \n', []],
    [
      'a page',
      () => JSON_VALUES,
      '{"records":[{"a":[{}]},{"b":1}],"next":"AB_-"}',
      [
        [1, '{"a":[{}]}'],
        [1, '{"b":1}'],
      ],
    ],
    [
      'pages, in other spellings',
      () => JSON_VALUES,
      '\ufeff\n{ "next" : null,\n"records" : [\n{"a":"]}"}\n] }\n{"records":[]}{"records":"[",\n"a":[{"records":[1]}]}',
      [
        [4, '{"a":"]}"}'],
        [6, '{"records":"[", "a":[{"records":[1]}]}'],
      ],
    ],
    [
      'csv',
      () => csv(',', plain),
      '\ufeffsource,type,ä\r\ns,t,"x""\r\n\r\n,y"\r\n\r\ns,t,z',
      [
        [2, '{"source":"s","type":"t","data":{"ä":"x\\"\\r\\n\\r\\n,y"}}'],
        [6, '{"source":"s","type":"t","data":{"ä":"z"}}'],
      ],
    ],
  ] as [string, () => FileFormat, string, [number, string][]][]) {
    const bytes = Buffer.from(text)
    for (let size = 1; size <= bytes.length; size++)
      t.same(await read(format(), bytes, size), expected, `${name}, blocks of ${size} bytes`)
  }
})

t.test('a page that is cut off or has other members is refused', async (t) => {
  for (const [text, reason] of [
    ['{"records":[{"a":1},', 'it ends on line 1, but the array is not closed'],
    ['{"records":[{"a":1}]\n', 'it ends on line 2, but the page is not closed'],
    [
      '{"records":[{"a":1}],"total":1}',
      'after its records, a page may contain only next and count, but line 1 has something else',
    ],
  ] as const) {
    for (const size of [1, 100]) await t.rejects(read(JSON_VALUES, Buffer.from(text), size), { message: reason }, text)
  }
})

t.test('a JSON string with a line break is refused, not repaired', async (t) => {
  const [line] = await read(JSON_VALUES, Buffer.from('[{"a":"x\ny"}]'), 5)
  t.same(line, [1, 'A string in it contains a line break. In JSON, write it as \\n.'])
})

t.test('a CSV row that is not UTF-8 is refused, and no character is replaced', async (t) => {
  const bytes = Buffer.from('source,type,city\ns,t,Bern\ns,t,Z\xfcrich\ns,t,Basel\n', 'latin1')
  t.same(await read(csv(',', plain), bytes, 100), [
    [2, '{"source":"s","type":"t","data":{"city":"Bern"}}'],
    [3, NOT_UTF8],
    [4, '{"source":"s","type":"t","data":{"city":"Basel"}}'],
  ])
})

// csv-parse returns such a row as text, without the second byte of this delimiter, and takes what follows a stray quote for one cell.
t.test('a row of CSV that is refused keeps its bytes and its line number, and so do the rows after it', async (t) => {
  // Each character is a byte. The delimiter is ¦ in UTF-8.
  const rows = (
    [
      [2, 's|t|"two\r\n\r\nlines"'],
      [5, 's|t|"x"y', 'There is text after a closing quote.'],
      [6, 's|t|"z"y"\r\ns"|t|z', 'There is text after a closing quote.'],
      [8, 's|t', 'It has 2 cells'],
      [9, 's|t|Z\xfcrich', NOT_UTF8],
      [10, 's|t|Bern'],
    ] as [number, string, string?][]
  ).map(([number, row, reason]) => [number, row.replaceAll('|', '\xc2\xa6'), reason] as const)
  const header = 'source|type|city'.replaceAll('|', '\xc2\xa6')
  const bytes = Buffer.from([header, ...rows.map(([, row]) => row), ''].join('\r\n'), 'latin1')
  for (const size of [1, 7, bytes.length]) {
    const found = await readLines(csv('¦', plain), bytes, size)
    const kept = found.map(({ number, original }) => [number, original.toString('latin1')])
    const reasons = found.map(({ reason }) => reason)
    t.same(
      kept,
      rows.map(([number, row]) => [number, row]),
      `blocks of ${size}`,
    )
    t.match(
      reasons,
      rows.map(([, , reason]) => reason),
      `blocks of ${size}`,
    )
  }
})

t.test('a row of CSV that is longer than any record ends the input, however short its lines are', async (t) => {
  const line = `${'x'.repeat(1024 * 1024 - 1)}\n`
  for (const [text, sentence] of [
    [`source,type\ns,t\ns,"${line.repeat(17)}"\n`, 'the row that begins on line 3 is longer than 16777216 bytes'],
    [`source,type\ns,t\ns,${','.repeat(17 * 1024 * 1024)}\n`, 'the row that begins on line 3 is longer than'],
    [`source,type\ns,t\ns,"${line.repeat(2)}`, 'a quote that opens on line 3 is never closed'],
  ] as const)
    await t.rejects(read(csv(',', plain), Buffer.from(text), 256 * 1024), { message: new RegExp(`^${sentence}`) })
})

/** Each record, or why it is not one, with its line. */
async function read(format: FileFormat, bytes: Buffer, size: number): Promise<[number, string][]> {
  const lines = await readLines(format, bytes, size)
  return lines.map(({ number, record, reason }) => [number, reason ?? String(record)])
}

async function readLines(format: FileFormat, bytes: Buffer, size: number): Promise<InputLine[]> {
  async function* blocks() {
    for (let at = 0; at < bytes.length; at += size) yield Buffer.from(bytes.subarray(at, at + size))
  }
  const found: InputLine[] = []
  for await (const { lines } of format.read(blocks())) found.push(...lines)
  return found
}
