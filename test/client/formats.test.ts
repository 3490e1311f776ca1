import t from 'tap'
import { csv } from '../../src/client/csv.ts'
import { JSON_VALUES } from '../../src/client/json.ts'
import { type Format, NDJSON } from '../../src/client/lines.ts'

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
      'csv',
      () => csv(',', plain),
      '\ufeffsource,type,ä\r\ns,t,"x""\r\n\r\n,y"\r\n\r\ns,t,z',
      [
        [2, '{"source":"s","type":"t","data":{"ä":"x\\"\\r\\n\\r\\n,y"}}'],
        [6, '{"source":"s","type":"t","data":{"ä":"z"}}'],
      ],
    ],
  ] as [string, () => Format, string, [number, string][]][]) {
    const bytes = Buffer.from(text)
    for (let size = 1; size <= bytes.length; size++)
      t.same(await read(format(), bytes, size), expected, `${name}, blocks of ${size} bytes`)
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
    [3, 'It is not UTF-8.'],
    [4, '{"source":"s","type":"t","data":{"city":"Basel"}}'],
  ])
})

/** Each record, or the reason for its refusal, with its line. */
async function read(format: Format, bytes: Buffer, size: number): Promise<[number, string][]> {
  async function* blocks() {
    for (let at = 0; at < bytes.length; at += size) yield Buffer.from(bytes.subarray(at, at + size))
  }
  const found: [number, string][] = []
  for await (const { lines } of format.read(blocks())) {
    for (const { number, record, reason } of lines) found.push([number, reason ?? String(record)])
  }
  return found
}
