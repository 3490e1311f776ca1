import t from 'tap'
import { JSON_VALUES } from '../../../src/client/json.ts'
import { NDJSON } from '../../../src/client/lines.ts'
import { objects } from '../../../src/client/objects.ts'
import { timeReader } from '../../../src/client/times.ts'

interface Options {
  map?: Record<string, string>
  set?: Record<string, string>
  time?: string
}

/** The records of a text, or why an object is not one. */
async function read(text: string | Buffer, { map = {}, set = {}, time }: Options, size = 7): Promise<string[]> {
  const mapping = {
    map: new Map(Object.entries(map)),
    set: new Map(Object.entries(set)),
    json: new Set<string>(),
    readTime: time === undefined ? undefined : timeReader(time, undefined),
  }
  const bytes = Buffer.from(text)
  async function* blocks() {
    for (let at = 0; at < bytes.length; at += size) yield Buffer.from(bytes.subarray(at, at + size))
  }
  const found: string[] = []
  const format = String(text).startsWith('[') ? JSON_VALUES : NDJSON
  for await (const { lines } of objects(format, mapping).read(blocks()))
    for (const { record, reason } of lines) found.push(reason ?? String(record))
  return found
}

const SET = { source: 's', type: 't' }

t.test('objects become data, and members with the names of attributes become attributes', async (t) => {
  for (const [object, options, record] of [
    ['{"n":12345678901234567890.10,"a":[ 1 ]}', { set: SET }, '"data":{"n":12345678901234567890.10,"a":[ 1 ]}'],
    [
      '{"id":"7","n":-0,"time":"2026-01-01T00:00:00Z"}',
      { set: SET },
      '"id":"7","time":"2026-01-01T00:00:00Z","data":{"n":-0}',
    ],
    [
      '{"number":12345678901234567890,"n":1}',
      { set: SET, map: { id: 'number' } },
      '"id":"12345678901234567890","data":{"n":1}',
    ],
    ['{"id":1.50,"n":1}', { set: SET }, '"id":"1.50","data":{"n":1}'],
    ['{"id":true,"subject":null,"n":1}', { set: SET }, '"id":"true","data":{"n":1}'],
    ['{"id":"","time":"","n":""}', { set: SET, time: 'iso' }, '"data":{"n":""}'],
    ['{"id":"1","n":1}', { set: SET, map: { id: '' } }, '"data":{"id":"1","n":1}'],
    ['{"source":"x","n":1}', { set: SET }, '"data":{"source":"x","n":1}'],
    ['{"id":"\\u00e9\\n"}', { set: SET }, '"id":"\\u00e9\\n"'],
    [
      '{"user":{"id":5,"a/b":[0,{"~":"x"}]}}',
      { set: SET, map: { id: '/user/id' } },
      '"id":"5","data":{"user":{"id":5,"a/b":[0,{"~":"x"}]}}',
    ],
    [
      '{"user":{"id":5,"a/b":[0, {"~":"x"}]}}',
      { set: SET, map: { id: '/user/a~1b/1/~0' } },
      '"id":"x","data":{"user":{"id":5,"a/b":[0, {"~":"x"}]}}',
    ],
    ['{"n":1,"kind":"k"}', { set: SET, map: { shop: 'kind' } }, '"shop":"k","data":{"n":1}'],
    ['{"payload":{"n":1.0}}', { set: SET, map: { data: 'payload' } }, '"data":{"n":1.0}'],
    ['{"payload":null,"id":"1"}', { set: SET, map: { data: 'payload' } }, '"id":"1","data":null'],
    ['{"payload":1,"source":"old"}', { set: SET, map: { data: 'payload' } }, '"data":1'],
    ['{"b":1,"a":2,"b":3}', { set: SET }, '"data":{"b":1,"a":2,"b":3}'],
    ['{"\\u0069d":"7","n":1}', { set: SET }, '"id":"7","data":{"n":1}'],
    ['{"data":1}', { set: SET, map: { data: '' } }, '"data":{"data":1}'],
    ['{"data":1,"n":2}', { set: SET }, '"data":{"data":1,"n":2}'],
    [
      '{"time":1325376000123,"n":1}',
      { set: SET, time: 'milliseconds' },
      '"time":"2012-01-01T00:00:00.123Z","data":{"n":1}',
    ],
    [
      '{"at":"2012-01-01","time":"x"}',
      { set: SET, map: { time: 'at' }, time: 'iso' },
      '"time":"2012-01-01T00:00:00Z","data":{"time":"x"}',
    ],
  ] as [string, Options, string][]) {
    const expected = [`{"source":"s","type":"t",${record}}`]
    t.same(await read(`${object}\r\n`, options), expected, object)
    t.same(await read(`[${object}]`, options), expected, `[${object}]`)
  }
})

t.test('an object that does not fit is refused alone, with what is wrong', async (t) => {
  const good = '{"id":"1","n":1}'
  const stored = '{"source":"s","type":"t","id":"1","data":{"n":1}}'
  for (const [object, reason, map] of [
    ['{"id":{"a":1}}', '"id" is an object, but id is text.'],
    ['{"id":[1]}', '"id" is an array, but id is text.'],
    ['{"id":"1","id":"2"}', 'It repeats the member "id".'],
    ['{"n":1}', 'It has no value of "id", which is the id.', { id: 'id' }],
    ['{"id":"","n":1}', 'It has no value of "id", which is the id.', { id: 'id' }],
    ['{"id":null,"n":1}', 'It has no value of "id", which is the id.', { id: 'id' }],
    ['[1]', 'It is not a JSON object.'],
    [
      '{"n":01}',
      'The record is not JSON: the error is at character 7 of it. A number has no leading zeros: remove them, or write it in double quotes.',
    ],
    [
      '{"n":1} x',
      'The record is not JSON: the error is at character 9 of it. Nothing may follow the end of the record, not even a comma.',
    ],
    ['{"source":"a","data":1}', /^It looks like a record that has data already\. Use --map data=data/],
    ['{"a":{"b":1,"b":2}}', 'It repeats the member "b".', { subject: '/a/b' }],
    ['{"time":"2012-01-32"}', '"time": "2012-01-32" has a date that does not exist.', {}, 'iso'],
  ] as [string, string | RegExp, Record<string, string>?, string?][]) {
    const found = await read(`${good}\n${object}\n${good}\n`, {
      set: SET,
      ...(map && { map }),
      ...(time(object) && { time: 'iso' }),
    })
    t.match(found, [stored, reason, stored], object)
  }
  t.match(await read(Buffer.from('{"id":"1","n":1}\n{"n":"\xe4"}\n', 'latin1'), { set: SET }), [
    stored,
    'It is not UTF-8.',
  ])

  t.same(await read('{"n":1,"m":2}', { set: SET, map: { data: 'n' } }), [
    'With --map data=… every other member must be mapped too, but "m" is not.',
  ])

  function time(object: string): boolean {
    return object.includes('"time"')
  }
})

t.test('a record keeps everything, and --set adds or replaces attributes', async (t) => {
  const record = '{"source":"s","type":"t","id":"1", "data":{"n":1.0}}'
  t.same(await read(record, {}), [record])
  t.same(await read(record, { set: { batch: 'b"7' } }), [
    '{"batch":"b\\"7","source":"s","type":"t","id":"1","data":{"n":1.0}}',
  ])
  t.same(await read(record.replace('"id"', '"batch":"old","id"'), { set: { batch: 'new' } }), [
    '{"batch":"new","source":"s","type":"t","id":"1","data":{"n":1.0}}',
  ])
  t.same(await read(record.replace('"id"', '"batch":"a","batch":"b","id"'), { set: { batch: 'new' } }), [
    'It repeats the member "batch".',
  ])
  t.same(await read(record.replace('"id":"1"', '"time":""'), { time: 'seconds' }), [
    '{"source":"s","type":"t","data":{"n":1.0}}',
  ])
  t.same(await read(record.replace('"id":"1"', '"time":1325376000'), { time: 'seconds' }), [
    '{"time":"2012-01-01T00:00:00Z","source":"s","type":"t","data":{"n":1.0}}',
  ])
})

t.test(
  'objects that do not fit the options end the run before anything is sent, with everything that is wrong',
  async (t) => {
    for (const [text, options, message] of [
      [
        '{"name":"x","age":1}\n{"mail":"y"}',
        {},
        'it has no source and no type, which every record needs (--set source=TEXT, or --map source=MEMBER). Its members are "name", "age", "mail"',
      ],
      ['{"source":"x","n":1}', {}, /^it has no type, which/],
      ['{"n":1}', { set: { source: 's' } }, /^it has no type, which/],
      [
        '{"n":1}',
        { map: { id: 'number', time: '/at/0' } },
        'no object has the member "number" of --map id=number; no object has the member "/at/0" of --map time=/at/0; it has no source and no type, which every record needs (--set source=TEXT, or --map source=MEMBER). Its members are "n"',
      ],
      [
        'number;kind\n1;2\n',
        {},
        'it has no JSON object, and begins with "number;kind". It looks like CSV. Use --format csv or --format tsv',
      ],
      [' [\n{"source":"s","type":"t"}\n]', {}, 'it begins with "[", like a JSON array: use --format json'],
      ['{\n"source":"s"\n}', {}, /^its first object cannot be read\. .* it ends too early\. .* use --format json\.$/],
      [
        '{"Id":1,"time":"x","Time":"y","Type":"z"}',
        { set: SET },
        'its member "Id" differs from id only in case. Use --map id=Id, or --map id= if it is part of the data. Its members are "Id", "time", "Time", "Type"',
      ],
      ['[1,2]', {}, 'it has no JSON object, and begins with "1"'],
      ['{}', {}, 'it has no source and no type, which every record needs (--set source=TEXT, or --map source=MEMBER)'],
    ] as [string, Options, string | RegExp][])
      for (const size of [1, 4096]) await t.rejects(read(text, options, size), { message }, text)
    for (const [map, message] of [
      [{ data: '/a' }, /^--map data= needs the name of a member/],
      [{ id: '/a~2' }, /^"\/a~2" is not a JSON Pointer/],
    ] as const)
      t.throws(() => objects(NDJSON, { map: new Map(Object.entries(map)), set: new Map(), json: new Set() }), {
        message,
      })
  },
)

t.test('a member that only some objects have may be absent', async (t) => {
  t.same(await read('{"n":1}\n{"user":"u"}\n', { set: SET, map: { subject: 'user' } }), [
    '{"source":"s","type":"t","data":{"n":1}}',
    '{"source":"s","type":"t","subject":"u"}',
  ])
})

t.test('an object may have more members than a record', async (t) => {
  const members = Array.from({ length: 3000 }, (_, at) => `"m${at}":${at}`).join()
  t.same(await read(`{${members}}`, { set: SET }, 4096), [`{"source":"s","type":"t","data":{${members}}}`])
})

t.test('objects before a fault in the file are kept', async (t) => {
  const pieces: string[] = []
  const mapping = { map: new Map(), set: new Map(Object.entries(SET)), json: new Set<string>() }
  async function* blocks() {
    yield Buffer.from('[{"n":1},\n')
    yield Buffer.from('{"n":2')
  }
  await t.rejects(
    async () => {
      for await (const { lines } of objects(JSON_VALUES, mapping).read(blocks()))
        pieces.push(...lines.map(({ record }) => String(record)))
    },
    { message: 'it ends within the record that begins on line 2' },
  )
  t.same(pieces, ['{"source":"s","type":"t","data":{"n":1}}'])
})
