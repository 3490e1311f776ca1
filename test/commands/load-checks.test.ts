import { gzipSync } from 'node:zlib'
import t from 'tap'
import { urlOption } from '../../src/client/server.ts'
import { prepareLoad } from '../../src/commands/load-checks.ts'
import type { RawOptions } from '../../src/commands/load-options.ts'
import { write } from '../helpers/load.ts'
import { startStub } from '../helpers/proxy.ts'

t.test('what prevents a load is said before anything is sent, with what to type instead', async (t) => {
  const url = await startStub(t, (_request, response) => response.end())
  const before = process.env.SLUICE_KEY
  process.env.SLUICE_KEY = 'k'.repeat(20)
  t.teardown(() => {
    if (before === undefined) delete process.env.SLUICE_KEY
    else process.env.SLUICE_KEY = before
  })
  /** Why files cannot be loaded; an empty text if they can. */
  const check = async (files: Record<string, string | Buffer>, raw: Partial<RawOptions> = {}): Promise<string> => {
    const names: string[] = []
    for (const [name, content] of Object.entries(files)) names.push(await write(t, name, content))
    const stop = new AbortController()
    return prepareLoad(names, { url, connections: '1', ...raw }, stop.signal).then(
      () => '',
      ({ message }) => message,
    )
  }
  const set = ['source=s', 'type=t']
  const csv = 'n,m\n1,2\n'

  for (const [sentence, files, raw] of [
    // The command to try again is for all files and against everything, or it is missing.
    [/To try again: sluice.* --delimiter ';'$/, { 'a.csv': 'a;b\n1;2\n', 'b.csv': 'c;d\n1;2\n' }, { set }],
    [/^(?!.*To try again)/s, { 'a.csv': 'a;b\n1;2\n', 'b.csv': 'c;d\n1;2\n', 'c.csv': ',b\n1;2\n' }, { set }],
    [/^(?!.*To try again)/s, { 'a.csv': 'a;b\n1;2\n', 'b.csv': 'c|d\n1|2\n' }, { set }],
    [/^(?!.*To try again)/s, { 'a.csv': 'a;b\n1;2\n' }, { set, rejected: 'r.ndjson' }],
    [/--map id=ID, or .*\nTo try again: sluice.* --map id=ID$/, { 'a.csv': 'ID,b\n1,2\n' }, { set }],
    [/--map id=Id, or .*\nTo try again: sluice.* --map id=Id$/, { 'a.ndjson': '{"Id":1}\n' }, { set }],
    [
      /To try again: sluice.* --set type=TEXT --map id=Id$|--map id=Id --set type=TEXT$/,
      { 'a.ndjson': '{"Id":1}\n' },
      { set: ['source=s'] },
    ],
    // Names that are almost right.
    [/it has no column "nr" \(did you mean "Nr"\?\)/, { 'a.csv': 'Nr,b\n1,2\n' }, { set, map: ['id=nr'] }],
    [
      /no object has the member "nr" of --map id=nr \(did you mean "Nr"\?\)/,
      { 'a.ndjson': '{"Nr":1}\n' },
      { set, map: ['id=nr'] },
    ],
    // Constants that the server would refuse in each record.
    [
      /^--set 'source=mein shop': it must be a URI-reference .*\. Write it as .source=mein%20shop.$/,
      { 'a.csv': csv },
      { set: ['source=mein shop', 'type=t'] },
    ],
    [/^--set id=: all records would have the same id\. Use --map id=/, { 'a.csv': csv }, { set: [...set, 'id=5'] }],
    [
      /^--set 'batch=a\\nb': it must be text without control characters/,
      { 'a.csv': csv },
      { set: [...set, 'batch=a\nb'] },
    ],
    [
      /^--set type=x{300}: it must be text of 1 to 256 bytes/,
      { 'a.csv': csv },
      { set: ['source=s', `type=${'x'.repeat(300)}`] },
    ],
    [/^--set dataschema=x: it must be an absolute URI/, { 'a.csv': csv }, { set: [...set, 'dataschema=x'] }],
    [
      /^--set datacontenttype=json: it must be a media type/,
      { 'a.csv': csv },
      { set: [...set, 'datacontenttype=json'] },
    ],
    // Delimiters in words and numbers.
    ['', { 'a.csv': 'a;b\n1;2\n' }, { set, delimiter: 'semicolon', number: ['b'] }],
    ['', { 'a.csv': 'a\tb\n1\t2\n' }, { set, delimiter: 'TAB', number: ['b'] }],
    ['', { 'a.csv': 'a\x1fb\n1\x1f2\n' }, { set, delimiter: '\\x1f', number: ['b'] }],
    [
      /^--delimiter semi: it must be a character .* words tab, comma, semicolon, pipe, space$/,
      { 'a.csv': csv },
      { set, delimiter: 'semi' },
    ],
    // A file of rejected lines that could not be loaded with the same options.
    [/^--rejected bad: the lines are csv, so the name must end with \.csv/, { 'a.csv': csv }, { set, rejected: 'bad' }],
    [
      /^--rejected r\.csv: the lines are tsv, so the name must end with \.tsv/,
      { 'a.tsv': 'a\tb\n' },
      { set, rejected: 'r.csv' },
    ],
    [/^--rejected r\.csv: the lines are ndjson/, { 'a.ndjson': '{"a":1}\n' }, { set, rejected: 'r.csv' }],
    ['', { 'a.tsv': 'a\tb\n' }, { set, rejected: 'r.csv', delimiter: 'tab' }],
    ['', { 'a.csv': csv }, { set, rejected: 'r.csv.gz' }],
    ['', { 'a.csv': csv }, { set, rejected: '/dev/null' }],
    ['', { 'a.json': '[{"a":1}]' }, { set, rejected: 'r' }],
    // Compressed data that something else follows.
    [
      /its data is damaged, or something else follows it \(incorrect header check\)\. What can be read: zcat FILE \| sluice load - …$/,
      { 'a.csv.gz': Buffer.concat([gzipSync(csv), Buffer.from('garbage')]) },
      { set },
    ],
    [/it is not compressed with gzip, although its name ends with \.gz\. Rename it/, { 'a.csv.gz': csv }, { set }],
    [/it is gzip\. Let its name end with \.gz, or: zcat FILE \| sluice load - …$/, { 'a.csv': gzipSync(csv) }, { set }],
  ] as [string | RegExp, Record<string, string | Buffer>, Partial<RawOptions>?][]) {
    // biome-ignore format: a table
    const message = await check(files, raw)
    if (typeof sentence === 'string') t.equal(message, sentence, JSON.stringify(raw))
    else t.match(message, sentence, JSON.stringify(raw))
    t.not(message, sentence === '' ? undefined : '')
  }
})

t.test('the URL of a route is refused, with the URL of its server', (t) => {
  for (const [text, server] of [
    ['http://h:1/v1/records', 'http://h:1'],
    ['https://h/ingest/v1/', 'https://h/ingest'],
    ['https://h/console/', 'https://h'],
    ['https://h/docs', 'https://h'],
  ] as const)
    t.throws(() => urlOption().parseArg?.(text, ''), { message: `It must be the URL of the server alone: ${server}` })
  t.equal(urlOption().parseArg?.('https://h/ingest/', ''), 'https://h/ingest')
  t.end()
})
