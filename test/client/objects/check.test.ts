import t from 'tap'
import { JSON_VALUES } from '../../../src/client/json.ts'
import { NDJSON } from '../../../src/client/lines.ts'
import { objects } from '../../../src/client/objects.ts'

interface Options {
  map?: Record<string, string>
  set?: Record<string, string>
}

const SET = { source: 's', type: 't' }

/** The records of a file, or why it cannot be loaded. */
async function read(text: string, { map = {}, set = SET }: Options = {}, isLines = false): Promise<string[] | string> {
  const mapping = { map: new Map(Object.entries(map)), set: new Map(Object.entries(set)), json: new Set<string>() }
  async function* bytes() {
    yield Buffer.from(text)
  }
  const found: string[] = []
  try {
    for await (const { lines } of objects(isLines ? NDJSON : JSON_VALUES, mapping).read(bytes()))
      for (const { record, reason } of lines) found.push(reason ?? String(record))
    return found
  } catch (error) {
    return (error as Error).message
  }
}

// Each of these became one record, and the exit code was 0.
t.test('an object that contains the records is refused, with the command that loads them one by one', async (t) => {
  const rest = 'FILE | sluice load - …; if the whole object is one record, add --map data='
  for (const [text, what, filter] of [
    ['{"object":"list","data":[{"a":1}]}', '"data" in it is an array of objects', '.data[]'],
    ['{"@odata.context":"x","value": [ {"a":1} ]}\n', '"value" in it is an array of objects', '.value[]'],
    ['{"items":[{"a":1},{"a":2}],"errors":[{}],"total":2}', '"items" in it is an array of objects', '.items[]'],
    [
      '{"type":"FeatureCollection","features":[{"type":"Feature"}]}',
      '"features" in it is an array of objects',
      '.features[]',
    ],
    ['{"took":1,"hits":{"total":1,"hits":[{"a":1}]}}', '"hits"/"hits" in it is an array of objects', '.hits.hits[]'],
    [
      '{"data":{"all orders":{"nodes":[{}]}}}',
      '"data"/"all orders"/"nodes" in it is an array of objects',
      '.data["all orders"].nodes[]',
    ],
    ['{"1":{"a":1},"2":{"a":2}}', 'all its members are objects', 'to_entries[] | {id: .key} + .value'],
    [`{"items":[{"a":"${'x'.repeat(2 ** 21)}"}]}`, '"items" in it is an array of objects', '.items[]'],
  ] as const) {
    // biome-ignore format: a table
    const message = `it is a single object, and ${what}. If these are the records: jq -c '${filter}' ${rest}`
    for (const isLines of [true, false]) t.equal(await read(text, {}, isLines), message, text.slice(0, 80))
    t.type(await read(text, { map: { data: '' } }), Array, 'confirmed')
  }
  t.match(
    await read('{"a":{"0":1,"1":2},"b":{"0":3,"1":4}}'),
    /as pandas writes it\. Write its rows: to_json\(orient='records'/,
  )
  t.match(await read('{"items":[{"a":1}]}', { set: {} }), /jq -c '\.items\[\]' FILE/, 'also without options')
})

t.test('an object that is a record, or is not alone, may contain arrays of objects', async (t) => {
  for (const [text, options] of [
    ['{"id":"7","items":[{"a":1}]}'],
    ['{"number":"7","items":[{"a":1}]}', { map: { id: 'number' }, set: SET }],
    ['{"items":[{"a":1}]}', { set: { ...SET, id: '7' } }],
    ['{"payload":{"items":[{"a":1}]}}', { map: { data: 'payload' }, set: SET }],
    ['{"source":"s","type":"t","data":[{"a":1}]}', { set: {} }],
    ['{"items":[{"a":1}]}\n{"items":[{"a":2}]}'],
    ['{"tags":["a"],"address":{"city":"x"}}'],
    ['{"address":{"city":"x"}}'],
    ['{}'],
  ] as [string, Options?][])
    t.type(await read(text, options), Array, text)
})

// The reason was replaced by "it has no JSON object … Use --format json".
t.test('a file without any object that can be read is refused, with what is wrong with the first one', async (t) => {
  const broken = 'its first object cannot be read. The record is not JSON: the error is at character'
  for (const [text, message, isLines] of [
    ['{"a":1,}', `${broken} 8 of it. Remove the comma before it.`],
    ['[{"a":NaN}]', `${broken} 6 of it. JSON has no NaN: use null, or leave the member out.`],
    ['{"a":1}{"a":2}', `${broken} 8 of it. Another value begins there. Begin a line for each record, or use --format json.`, true],
    ['{"a":1},\n', `${broken} 8 of it. Nothing may follow the end of the record, not even a comma.`, true],
    ['{\n"a":1\n}\n', 'its first object cannot be read. The record is not JSON: it ends too early. A quote or a bracket is not closed. If a record or an array takes several lines, use --format json.', true],
    ['[{"a":"x\ny"}]', 'its first object cannot be read. A string in it contains a line break. In JSON, write it as \\n.'],
    ['[["a","b"],[1,2]]', `it has no JSON object, and begins with "[\\"a\\",\\"b\\"]". If its arrays are rows: jq -r '.[] | @csv' FILE | sluice load - --format csv …`],
    ['null', 'it has no JSON object, and begins with "null"'],
    ['a,b\n1,2\n', 'it has no JSON object, and begins with "a,b". It looks like CSV. Use --format csv or --format tsv', true],
    ['<?xml version="1.0"?>\n<a/>', 'it has no JSON object, and begins with "<?xml version=\\"1.0\\"?>". It looks like XML or HTML. Convert it to JSON, such as with yq -p xml -o json FILE', true],
    ['---\na: 1\n', 'it has no JSON object, and begins with "---". It looks like YAML. Use: yq -o json FILE | sluice load - --format json …', true],
    ['hello\n', 'it has no JSON object, and begins with "hello". Use --format csv or --format tsv if it is that', true],
  ] as [string, string, boolean?][]) // biome-ignore format: a table
    t.equal(await read(text, {}, isLines), message, text)
})
