import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { before } from '../../src/lib/before.ts'
import { folderOf, inParallel, load, start, stored, type Target, write } from '../helpers/load.ts'
import { sendProblem, startStub } from '../helpers/proxy.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const FILES = join(root, 'test/fixtures/files')

/** The commands of the manual that load files, as a person would paste them. */
async function readCommands(): Promise<string> {
  const manual = before(await readFile(join(root, 'src/client/README.md'), 'utf8'), '\n## ')
  return [...manual.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block]) => block).join('')
}

async function paste(t: Test, { url, key }: Target, script: string): Promise<{ code: number; output: string }> {
  const cwd = folderOf(t)
  await cp(FILES, cwd, { recursive: true })
  const sluice = `sluice() { '${process.execPath}' '${join(root, 'src/main.ts')}' "$@"; }\nset -e\n`
  const child = spawn('bash', ['-c', sluice + script], {
    cwd,
    env: { ...process.env, SLUICE_URL: url, SLUICE_KEY: key },
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += text))
  const [code] = await once(child, 'close')
  return { code, output }
}

t.test("the manual's examples load files as they are", async (t) => {
  const server = await start(t)
  const { code, output } = await paste(t, server, await readCommands())
  t.equal(code, 0, output)
  const all = (await stored(server)).map(({ source, type, id, time, subject }) => ({ source, type, id, time, subject }))
  t.match(
    all.filter(({ source }) => source === 'crm').sort((one, other) => one.id.localeCompare(other.id)),
    [
      { type: 'person.created', id: '1001', time: '2012-01-01T00:00:00Z' },
      { type: 'person.created', id: '1002', time: '2019-07-15T00:00:00Z' },
    ],
  )
  t.match((await server.get('/v1/records/crm/1001')).text, '"balance": 12345678901234567890.10')
  t.match((await server.get('/v1/records/crm/1002')).text, '"balance": 0.1000000000000000055')
  t.match(
    all
      .filter(({ source }) => source === 'web-1')
      .map(({ type, time }) => `${type} ${time}`)
      .sort(),
    ['info 2025-12-01T00:00:00.123Z', 'info 2025-12-01T00:00:02.789Z', 'warn 2025-12-01T00:00:01.456Z'],
  )
  const weather = (await stored(server)).filter(({ source }) => source === 'dwd')
  t.match(weather.map(({ subject, data }) => [subject, data.temperature, data.remark]).sort(), [
    ['7110', 0.9, 'two\nlines'],
    ['7110', 21.5, '12" pipe replaced'],
    ['7255', null, ''],
  ])
  t.match((await server.get('/v1/records/shop/0815')).text, '"data":{"Kunde":"Müller; Söhne","Betrag":1.50}')
  t.match((await server.get('/v1/records/shop/0815')).json.time, '2025-12-31T22:59:00Z')
  t.match((await server.get('/v1/records/shop/0816')).text, '"Betrag":-1234.00}')
})

t.test('rejected objects can be corrected and loaded with the same options', async (t) => {
  const server = await start(t)
  const options = ['--set', 'source=s', '--set', 'type=t', '--map', 'time=at', '--time-format', 'milliseconds']
  const file = await write(
    t,
    'a.ndjson',
    '{"id":1,"at":1764547200123}\n{"id":{},"at":1764547200123}\n{"id":3,"at":"2025-12-01"}\n',
  )
  const rejected = join(folderOf(t), 'r.ndjson')
  const first = await load(t, server, [file, ...options, '--rejected', rejected])
  t.match(first, { code: 1, counts: { created: 1, rejected: 2 } })
  t.equal(
    await readFile(`${rejected}.reasons`, 'utf8'),
    `${file}:2: "id" is an object, but id is text.\n${file}:3: "at": "2025-12-01" does not fit --time-format milliseconds. Use --time-format iso.\n`,
  )
  const lines = await readFile(rejected, 'utf8')
  t.equal(lines, '{"id":{},"at":1764547200123}\n{"id":3,"at":"2025-12-01"}\n', 'as in the file')
  await writeFile(rejected, lines.replace('{}', '2').replace('"2025-12-01"', '1764547200123'))
  t.match(await load(t, server, [rejected, ...options]), { code: 0, counts: { created: 2 } })
})

t.test('a rejected time is shown with the option that would fit', async (t) => {
  const server = await start(t)
  const record = (id: number, time: string) => `{"source":"s","type":"t","id":"${id}","time":${time}}\n`
  const times = ['"2012-01-01"', '1325376000', '"31.12.2025 12:00"', '"2012-01-01 00:00:00+0000"', '"\\u001b[2J"']
  const { stderr } = await load(t, server, ['-'], times.map((time, at) => record(at, time)).join(''))
  t.notMatch(stderr, /if it is in UTC, write|Write/, 'one sentence says what to do')
  for (const hint of [
    'It is "2012-01-01". Use --time-format iso.',
    'It is "1325376000". Use --time-format seconds.',
    `It is "31.12.2025 12:00". Use --time-format 'D.M.YYYY H:mm' --time-zone Europe/Berlin`,
    'It is "2012-01-01 00:00:00+0000". Use --time-format iso.',
    'It is "\\u001b[2J". Correct it, or describe it with a pattern',
  ])
    t.match(stderr, hint)
  const csv = 'source,type,id,time\ns,t,1,2012-01-01\n'
  t.match(
    (await load(t, server, ['-', '--format', 'csv'], csv)).stderr,
    'stdin:2: /time: time must be an RFC 3339 time',
  )
  t.match(await load(t, server, ['-', '--format', 'csv', '--time-format', 'iso'], csv), {
    code: 0,
    counts: { created: 1 },
  })
})

t.test('everything that is wrong is said at once, before anything is sent', async (t) => {
  const server = await start(t)
  const csv = await write(t, 'orders.csv', 'number,kind\n1,order\n')
  const json = await write(t, 'people.json', '[{"name":"x"}]')
  const nowhere = { ...server, url: 'http://127.0.0.1:1' }
  const missing = await load(t, nowhere, [csv, json, 'gone.csv', '--map', 'id=number', '--rejected', csv])
  t.equal(missing.code, 1)
  t.equal(
    missing.stderr.replace(/\(connect .*?\)|\(bad port\)/, '(…)'),
    `sluice: nothing was loaded, because:
- No server responds at http://127.0.0.1:1 (…). Run npm start in another terminal, or specify a server with --url
- There is no file gone.csv
- --rejected can only contain lines of one format and with one CSV header. Load the files one by one
- --rejected would overwrite ${csv}, which is an input
- ${csv} cannot be loaded: it has no source and no type, which every record needs (--set source=TEXT, or --map source=COLUMN). Its columns are "number", "kind"
- ${json} cannot be loaded: no object has the member "number" of --map id=number; it has no source and no type, which every record needs (--set source=TEXT, or --map source=MEMBER). Its members are "name"
`,
  )
  const options = await load(t, server, [
    csv, '--format', 'xml', '--connections', '99', '--map', 'Id=number', '--map', 'total', '--set', 'data=x', '--set', 'type=',
    '--set', 'time=2012-01-01', '--delimiter', '', '--decimal', ';', '--time-format', 'yyyy-MM-dd', '--time-zone', 'Mars/Olympus',
  ]) // biome-ignore format: a list of options
  for (const [option, count] of [
    ['--format xml: it must be ndjson, json, csv or tsv', 1],
    ['--connections 99: it must be from 1 to 16', 1],
    ['--map Id=number: it must be an attribute, = and a column or member. Attributes are source, type', 1],
    ['--map total: it must be an attribute', 1],
    ['--set data=: it is not an attribute. Use --map data=', 1],
    ['--set type= has no text after it', 1],
    ['--set time=2012-01-01: it must be an RFC 3339 time', 1],
    ["--delimiter '': it must be a character", 1],
    ["--decimal ';': it must be . or ,", 1],
    ['--decimal is for columns of numbers', 1],
    ['there is no time zone Mars/Olympus', 1],
  ] as const)
    t.equal(options.stderr.split(option).length - 1, count, option)
  t.same(await stored(server), [])
})

t.test('a pipe is read once, although its beginning is checked', async (t) => {
  const server = await start(t)
  const rows = Array.from({ length: 5000 }, (_, at) => `${at},${'x'.repeat(100)}\n`).join('')
  const options = ['--format', 'csv', '--delimiter', '\\t', '--set', 'source=s', '--set', 'type=t']
  const { code, counts } = await load(t, server, ['-', ...options], `id,text\n${rows}`.replaceAll(',', '\t'))
  t.match({ code, counts }, { code: 0, counts: { created: 5000, lines: 5001 } })
})

t.test('a pipe that is silent does not hide other problems', async (t) => {
  // The shell itself holds the pipe open.
  const script = 'mkfifo silent; exec 3<>silent; sluice load - --url http://127.0.0.1:1 <silent'
  const { code, output } = await paste(t, { url: '', key: 'k' }, script)
  t.equal(code, 1)
  t.match(output, /^sluice: No server responds/)
})

t.test('control characters in names and values are escaped', async (t) => {
  const server = await start(t)
  const evil = '\x1b]0;owned\x07\x9b31m'
  const inputs = [
    ['csv', `number,${evil}\n1,2\n`],
    ['csv', `source,type,n\ns,t,${evil}\n`, '--json', 'n'],
    ['csv', `source,type,time\ns,t,${evil}\n`],
    ['csv', `source,type,id\n"${evil}",t,1\n`],
    ['ndjson', JSON.stringify({ [evil]: 1, source: 's', type: 't', id: evil })],
    ['ndjson', JSON.stringify({ [evil]: 1 })],
  ] as [string, string, ...string[]][]
  await inParallel(inputs, async ([format, content, ...options]) => {
    const { stderr } = await load(t, server, ['-', '--format', format, ...options], content)
    t.match(stderr, /\\u0007\\u009b31m|must be|No field/)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: this is what must not be printed
    t.notMatch(stderr, /[\x00-\x09\x0b-\x1f\x7f-\x9f]/, 'nothing that a terminal interprets')
  })
  const url = await startStub(t, (_request, response) => sendProblem(response, 401, { detail: evil, retryable: false }))
  for (const [target, file] of [
    [server, `gone${evil}`],
    [{ url, key: 'k' }, '-'],
  ] as const) {
    const { stderr } = await load(t, target, [file], '{"source":"s","type":"t"}')
    t.match(stderr, /^sluice: .*\\u001b\]0;owned\\u0007\\u009b31m\.\n$/)
  }
})
