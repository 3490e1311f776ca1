import { execFileSync } from 'node:child_process'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { ListQuerySchema } from '../../src/schemas/list.ts'
import { createApp, type TestApp } from '../helpers/app.ts'
import { type Command, runCommand } from '../helpers/command.ts'
import { inParallel } from '../helpers/load.ts'
import { sendCut, sendProblem, startStub } from '../helpers/proxy.ts'

/** Records of every kind: all attributes, bytes, no data, null, text that is difficult in CSV and lines, and long numbers. */
const RECORDS = [
  '{"source":"shop","type":"order.placed","id":"1","data":{"total":12.50,"n":12345678901234567890}}',
  '{"source":"shop","type":"order.placed","id":"2","subject":"a, \\"b\\"","time":"2026-01-31T12:00:00.123456Z","data":"x\\r\\ny"}',
  '{"source":"shop","type":"order.paid","id":"3","dataschema":"https://example.com/s","datacontenttype":"text/plain","data_base64":"AAH/","tenant":"a,b","level":3}',
  '{"source":"shop","type":"order.paid","id":"4"}',
  '{"source":"till/7","type":"order.paid","id":"5","data":null}',
  '{"source":"till/7","type":"order.paid","id":"6","data":{\n  "pretty": [\n    1\n  ]\n}}',
  '{"source":"till/7","type":"order.paid","id":"7","data":""}',
]

/** Contains all RECORDS. No test adds any. */
const server = await start(t)

t.test('an export loads back as duplicates only, in every format and compression', async (t) => {
  const folder = t.testdir()
  await inParallel(['a.ndjson', 'a.csv', 'a.ndjson.gz', 'a.zst', 'a.csv.gz', 'a.csv.zst'], async (name) => {
    const file = join(folder, name)
    t.match(await exported(t, server, ['--output', file]), { code: 0, stdout: '' }, name)
    const load = runCommand(t, ['load', file], env(server))
    t.equal(await load.exit, 0, `${name} loads: ${load.stderr()}`)
    t.match(load.stdout(), /^created +0\nduplicate +7\nconflict +0\nrejected +0$/m, name)
  })
  t.match(gunzipSync(await readFile(join(folder, 'a.ndjson.gz'))).toString(), /^\{.*\}\n$/s)
  t.match(zstdDecompressSync(await readFile(join(folder, 'a.csv.zst'))).toString(), /^source,id,type,/)
  t.equal((await readdir(folder)).length, 6, 'no other file is left')
})

t.test('an export loads into another database as the same records', async (t) => {
  const other = await start(t, [])
  for (const format of ['ndjson', 'csv']) {
    const { stdout } = await exported(t, server, ['--format', format, '--order', 'asc'])
    const load = runCommand(t, ['load', '-', '--format', format], env(other), [], stdout)
    t.equal(await load.exit, 0, load.stderr())
    const [originals, copies] = await Promise.all([server, other].map(readAll))
    t.same(copies, originals, format)
  }
})

t.test('without --output, the records go to stdout and the summary to stderr', async (t) => {
  const { code, stdout, stderr } = await exported(t, server, [])
  t.equal(code, 0)
  t.same(
    stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).id),
    ['7', '6', '5', '4', '3', '2', '1'],
  )
  t.match(stderr, /^7 records, 0\.0 MB, .* in \d+\.\d s\n$/m)
})

t.test('every filter of GET /v1/records is an option', async (t) => {
  const help = await exported(t, { url: 'http://127.0.0.1:1', key: 'k' }, ['--help'])
  const { count, fields, ...filters } = ListQuerySchema.properties
  for (const name of Object.keys(filters)) {
    t.match(help.stdout, `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} `)
  }
  for (const [args, ids] of [
    [
      ['--type', 'order.placed'],
      ['2', '1'],
    ],
    [
      ['--source-prefix', 'till', '--order', 'asc'],
      ['5', '6', '7'],
    ],
    [
      ['--source', 'shop', '--limit', '2'],
      ['4', '3'],
    ],
    [['--time-from', '2026-01-31T00:00:00Z', '--time-until', '2026-02-01T00:00:00Z'], ['2']],
    [['--data', '{"total":12.5}'], ['1']],
    [['--jsonpath', '$.total > 12'], ['1']],
    [['--id', 'none'], []],
  ] as const) {
    const { code, stdout } = await exported(t, server, args)
    t.equal(code, 0)
    t.same(
      stdout
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line).id),
      ids,
      args.join(' '),
    )
  }
})

t.test('--columns writes CSV with these columns, or NDJSON with these members', async (t) => {
  const args = ['--source', 'shop', '--order', 'asc', '--columns', 'data.total, id,data.n,type']
  const csv = [
    'data.total,id,data.n,type',
    '12.50,1,12345678901234567890,order.placed',
    ',2,,order.placed',
    ',3,,order.paid',
    ',4,,order.paid',
    '',
  ].join('\r\n')
  const folder = t.testdir()
  const file = (name: string) => join(folder, name)
  for (const more of [[], ['--format', 'csv'], ['--output', file('a.csv')], ['--output', file('b.tmp')]]) {
    const { code, stdout, stderr } = await exported(t, server, [...args, ...more])
    t.equal(code, 0, stderr)
    t.equal(more[0] === '--output' ? await readFile(more[1] as string, 'utf8') : stdout, csv, more.join(' '))
  }
  const first = '{"data":{"total":12.50,"n":12345678901234567890},"id":"1","type":"order.placed"}\n'
  for (const more of [
    ['--format', 'ndjson'],
    ['--output', file('c.ndjson.gz')],
  ]) {
    const { code, stdout } = await exported(t, server, [...args, ...more, '--limit', '1'])
    t.equal(code, 0)
    t.equal(stdout || gunzipSync(await readFile(file('c.ndjson.gz'))).toString(), first, more.join(' '))
  }
  t.match(await exported(t, server, ['--columns', 'total']), {
    code: 1,
    stderr: /^sluice: --columns contains "total", which is not a field\. A member of the data is data\.total/,
  })
})

t.test('a refusal names the option, and an option that does not exist leads to the one that does', async (t) => {
  for (const [args, message] of [
    [['--columns='], 'sluice: --columns is empty.'],
    [['--jsonpath', 'data.total > 1'], 'sluice: --jsonpath is wrong at character 1'],
    [['--time-from', 'x'], 'sluice: --time-from must'],
    [['--source-prefix='], 'sluice: --source-prefix is empty.'],
    [['--fields', 'id'], "error: unknown option '--fields'. Write --columns"],
    [['--count'], "error: unknown option '--count'. An export has all records"],
    [['--count=true'], "error: unknown option '--count'."],
  ] as [string[], string][]) {
    const { code, stderr } = await exported(t, server, args)
    t.equal(code, 1)
    t.ok(stderr.startsWith(message), `${args}: ${stderr}`)
  }
})

t.test('if the stream breaks off, the export fails, an old file is kept and no new one is left', async (t) => {
  const url = await startStub(t, (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/x-ndjson' })
    response.write(`${RECORDS[0]}\n`, () => response.destroy())
  })
  const folder = t.testdir({ 'old.ndjson': 'as it was' })
  const compressed = await startStub(t, (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/x-ndjson', 'content-encoding': 'zstd' })
    response.write(zstdCompressSync(RECORDS[0] as string).subarray(0, -9), () => response.destroy())
  })
  for (const [name, from] of [
    ['old.ndjson', url],
    ['new.ndjson.gz', url],
    ['packed.ndjson', compressed],
  ] as const) {
    const { code, stderr } = await exported(t, { url: from, key: 'k' }, ['--output', join(folder, name)])
    t.equal(code, 1)
    t.match(stderr, `${join(folder, name)} was not written`)
    hasNoStackTrace(t, stderr)
  }
  t.same(await readdir(folder), ['old.ndjson'])
  t.equal(await readFile(join(folder, 'old.ndjson'), 'utf8'), 'as it was')
  const { code, stderr } = await exported(t, { url, key: 'k' }, [])
  t.equal(code, 1)
  t.match(stderr, /^sluice: .*\. It broke off after \d records, .*: the output is incomplete\.$/m)
})

t.test('after Ctrl-C, no file is left', async (t) => {
  const begun = Promise.withResolvers<void>()
  const url = await startStub(t, (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/x-ndjson' })
    response.write(`${RECORDS[0]}\n`, () => begun.resolve())
  })
  const folder = t.testdir()
  const file = join(folder, 'a.ndjson')
  const command = runCommand(t, ['export', '--output', file], env({ url, key: 'k' }))
  await begun.promise
  // The file appears when the stream begins to arrive.
  while ((await readdir(folder)).length === 0);
  command.child.kill('SIGINT')
  const { code, stderr } = await ended(command)
  t.equal(code, 1)
  t.match(stderr, `sluice: Interrupted: ${file} was not written.`)
  t.same(await readdir(folder), [])
})

t.test('if its reader closes stdout, the export ends with one sentence', async (t) => {
  const url = await startStub(t, (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/x-ndjson' })
    const more = () => {
      while (response.writable && response.write(`${RECORDS[0]}\n`.repeat(1000)));
    }
    response.on('drain', more)
    more()
  })
  const command = runCommand(t, ['export'], env({ url, key: 'k' }))
  command.child.stdout?.once('data', () => command.child.stdout?.destroy())
  const { code, stderr } = await ended(command)
  t.equal(code, 1)
  t.match(stderr, 'sluice: The program that reads stdout closed it before the end.')
  hasNoStackTrace(t, stderr)
})

t.test('a 503 is retried, and a permanent error is reported in one sentence', async (t) => {
  let requests = 0
  const url = await startStub(t, (_request, response) => {
    requests++
    if (requests === 1) return sendProblem(response, 503, { detail: 'Away.', retryable: true }, { 'retry-after': '0' })
    // One that a proxy has cut.
    if (requests === 2) return sendCut(response, 503, { 'content-type': 'application/problem+json' }, '{"detail":"A')
    response.writeHead(200, { 'content-type': 'text/csv; charset=utf-8' }).end('source\r\n')
  })
  t.match(await exported(t, { url, key: 'k' }, ['--format', 'csv']), { code: 0, stdout: 'source\r\n' })
  t.equal(requests, 3)

  const ingestOnly = await server.makeKey({ scopes: ['ingest'] })
  const folder = t.testdir()
  const wrong: [string[], string | RegExp, Target?][] = [
    [['--time-from', 'yesterday'], 'sluice: --time-from '],
    [['--limit', 'many'], /^sluice: .*limit/],
    [[], 'sluice: The API key is not known.', { ...server, key: 'sluice_unknown' }],
    [[], /^sluice: .*scope.*read/, { ...server, key: ingestOnly.token }],
    [[], 'sluice: No server responds at http://127.0.0.1:1 (', { url: 'http://127.0.0.1:1', key: 'k' }],
    [
      [],
      'which is not a response of Sluice. Specify another server with --url. If Sluice is below a path, add it to --url',
      { url, key: 'k' },
    ],
    [['--output', join(folder, 'no', 'where')], /no\/where cannot be written: ENOENT/],
    [['--output', folder], `sluice: ${folder} is a folder; specify a file.`],
  ]
  await inParallel(wrong, async ([args, sentence, target]) => {
    const { code, stderr } = await exported(t, target ?? server, args)
    t.equal(code, 1)
    t.match(stderr, sentence)
    hasNoStackTrace(t, stderr)
  })
})

t.test('a named pipe as --output is written to, not replaced', async (t) => {
  const pipe = join(t.testdir(), 'pipe')
  execFileSync('mkfifo', [pipe])
  const [{ code }, read] = await Promise.all([exported(t, server, ['--output', pipe]), readFile(pipe, 'utf8')])
  t.equal(code, 0)
  t.equal(read.split('\n').length, 8)
  t.ok((await stat(pipe)).isFIFO())
})

// — helpers —

interface Target {
  url: string
  key: string
}

function env({ url, key }: Target) {
  return { SLUICE_URL: url, SLUICE_KEY: key }
}

async function start(t: Test, records = RECORDS): Promise<TestApp & Target> {
  const server = await createApp(t)
  for (const record of records) {
    const { status, text } = await server.post(record)
    if (status !== 201) throw new Error(text)
  }
  return { ...server, url: await server.app.listen({ port: 0 }) }
}

function exported(t: Test, target: Target, args: readonly string[]) {
  return ended(runCommand(t, ['export', ...args], env(target)))
}

async function ended({ exit, stdout, stderr }: Command) {
  const code = await exit
  return { code, stdout: stdout(), stderr: stderr() }
}

/** All records, without the fields that the server adds. */
async function readAll({ get }: TestApp): Promise<unknown[]> {
  const { json } = await get('/v1/records?order=asc')
  return json.records
    .map(({ receivedAt: _, cursor: __, ...record }: Record<string, unknown>) => record)
    .toSorted((one: { id: string }, other: { id: string }) => Number(one.id) - Number(other.id))
}

function hasNoStackTrace(t: Test, stderr: string): void {
  t.notMatch(stderr, /\n\s+at |node:internal/, 'no stack trace')
}
