import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import t from 'tap'
import {
  folderOf,
  hasNoStackTrace,
  inParallel,
  load,
  order,
  orders,
  report,
  start,
  stored,
  withoutProgress,
  write,
} from '../helpers/load.ts'
import { startStub } from '../helpers/proxy.ts'

// — stored records —

t.test('a file that is loaded twice is stored once, and both runs exit with 0', async (t) => {
  const server = await start(t)
  const file = await write(t, 'orders.ndjson', orders(2500))
  const first = await load(t, server, [file])
  t.equal(first.code, 0)
  t.match(first.counts, { created: 2500, duplicate: 0, conflict: 0, rejected: 0, lines: 2500 })
  t.match(first.stdout, /^seconds +[\d.]+\nrecords\/s +[\d,]+$/m)
  t.equal(withoutProgress(first.stderr), '', 'stderr has nothing but progress')
  t.equal((await stored(server)).length, 2500)

  const second = await load(t, server, [file])
  t.equal(second.code, 0)
  t.match(second.counts, { created: 0, duplicate: 2500 })
  t.equal((await stored(server)).length, 2500)
})

t.test('records without an id are stored once, even if they are loaded again from another file', async (t) => {
  const server = await start(t)
  const content = orders(2500, () => ({ id: undefined }))
  t.match((await load(t, server, [await write(t, 'a.ndjson', content)])).counts, { created: 2500 })
  t.match((await load(t, server, [await write(t, 'b.ndjson.gz', gzipSync(content))])).counts, { duplicate: 2500 })
  t.match((await load(t, server, ['-'], content)).counts, { created: 0, duplicate: 2500 })
})

t.test('equal lines without an id are separate records, and duplicates when they are loaded again', async (t) => {
  const server = await start(t)
  const content = '{"source":"clock","type":"tick"}\n'.repeat(3100)
  t.match(await load(t, server, ['-'], content), { code: 0, counts: { created: 3100, duplicate: 0 } })
  t.match(await load(t, server, ['-'], content), { code: 0, counts: { created: 0, duplicate: 3100 } })
})

t.test('one run loads several files, with CRLF, blank lines, a byte order mark and no final newline', async (t) => {
  const server = await start(t)
  const files = [
    await write(t, 'windows.ndjson', `\ufeff${order(1)}\r\n\r\n${order(2)}\r\n`),
    await write(t, 'unix.jsonl', `\n${order(3)}\n   \n${order(4)}`),
    await write(t, 'empty.ndjson', ''),
  ]
  t.match(await load(t, server, files), { code: 0, counts: { created: 4, lines: 7 } })
})

// It looked like a success, for example when the program before a pipe failed.
t.test('an input without records is reported', async (t) => {
  const server = await start(t)
  const files = [
    await write(t, 'a.csv', 'source,type\n'),
    await write(t, 'b.json', '[]'),
    await write(t, 'c.ndjson', order(1)),
  ]
  const { code, stderr, counts } = await load(t, server, [...files, '-'])
  t.match({ code, counts }, { code: 0, counts: { created: 1 } })
  t.equal(withoutProgress(stderr), `${files[0]}: 0 records\n${files[1]}: 0 records\nstdin: 0 records\n`)
})

t.test('NDJSON, JSON arrays, JSON values and CSV store the same records, plain or compressed', async (t) => {
  const server = await start(t)
  const records = [order(1), order(2, { data: { n: 1 } }), order(3)]
  const array = `[\n  ${records.map((record) => record.replaceAll(',', ',\n   ')).join(',\n  ')}\n]\n`
  const csv = 'source,type,id,n\nshop,order.placed,1,1\nshop,order.placed,2,1\nshop,order.placed,3,1\n'
  const ndjson = `${records.join('\n')}\n`
  const zstd = zstdCompressSync(ndjson)
  t.match(await load(t, server, [await write(t, 'a.ndjson', ndjson)]), { code: 0, counts: { created: 3 } })
  const inputs = [
    ['a.json', array],
    ['loose.json', records.join('\n\n')],
    ['A.JSON.GZ', gzipSync(array)],
    ['a.ndjson.gz', gzipSync(ndjson)],
    ['a.ndjson.gz', Buffer.concat([gzipSync(`${records[0]}\n`), gzipSync(`${records[1]}\n${records[2]}`)])],
    ['a.zst', zstd],
    [
      'frames.zst',
      Buffer.concat([zstdCompressSync(`${records[0]}\n`), zstdCompressSync(`${records[1]}\n${records[2]}`)]),
    ],
    ['a.jsonl.gz.zst', zstdCompressSync(gzipSync(ndjson))],
    ['a.txt', ndjson],
    ['array.txt', array, '--format', 'json'],
    ['a.csv', csv, '--json', 'n'],
    ['a.csv.zst', zstdCompressSync(csv), '--json', 'n'],
    ['semicolons.txt', csv.replaceAll(',', ';'), '--format', 'csv', '--delimiter', ';', '--json', 'n'],
  ] as const
  await inParallel(inputs, async ([name, content, ...options], index) => {
    const { code, counts } = await load(t, server, [await write(t, `${index}-${name}`, content), ...options])
    t.match({ code, counts }, { code: 0, counts: { created: 0, duplicate: 3 } }, `${name} ${options.join(' ')}`)
  })
})

t.test('every format preserves all digits of a number', async (t) => {
  const server = await start(t)
  const data = '{"n":12345678901234567890,"x":0.1000000000000000055,"z":-0}'
  const record = (id: string) => `{"source":"s","type":"t","id":"${id}","data":${data}}`
  await load(t, server, ['-'], record('ndjson'))
  await load(t, server, ['-', '--format', 'json'], `[${record('json')}]`)
  const cell = `"${data.replaceAll('"', '""')}"`
  const csv = `source,type,id,payload\ns,t,csv,${cell}\n`
  await load(t, server, ['-', '--format', 'csv', '--map', 'data=payload', '--json', 'payload'], csv)
  for (const id of ['ndjson', 'json', 'csv']) t.match((await server.get(`/v1/records/s/${id}`)).text, data, id)
})

// — failures —

t.test('a damaged or truncated input fails with exit code 1 and a sentence that names it', async (t) => {
  const server = await start(t)
  const content = Buffer.from(orders(5000, () => ({ data: Math.random() })))
  // RFC 8878, section 3.1.1: an empty frame with a window of 256 MiB.
  const wideWindow = Buffer.from('28b52ffd0090010000', 'hex')
  const damaged = [
    [
      'long.zst',
      wideWindow,
      /long\.zst cannot be loaded: it needs a window of more than 128 MiB\. Decompress it first: zstd -dc --long=31/,
    ],
    [
      'cut.ndjson.gz',
      gzipSync(content).subarray(0, -20_000),
      /cut\.ndjson\.gz cannot be read beyond line \d+: unexpected end/,
    ],
    [
      'cut.zst',
      zstdCompressSync(content).subarray(0, -20_000),
      /cut\.zst cannot be read beyond line \d+: unexpected end/,
    ],
    ['plain.zst', content, /plain\.zst cannot be loaded: it is not compressed with zstd/],
    [
      'plain.gz',
      content,
      /plain\.gz cannot be loaded: it is not compressed with gzip, although its name ends with \.gz\. Rename it/,
    ],
    [
      'cut.json',
      `[${order(1)},\n{"source":"s`,
      /cut\.json cannot be read beyond line 1: it ends within the record that begins on line 2/,
    ],
    ['open.json', `[${order(1)}\n`, /open\.json .*: it ends on line 2, but the array is not closed/],
    ['wrong.json', `${order(1)}}`, /wrong\.json .*: the } on line 1 closes nothing/],
    ['open.csv', 'source,type\ns,t\ns,"t\nx\n', /open\.csv .*: a quote that opens on line 3 is never closed/],
    ['empty.csv', '', /empty\.csv .*: it is empty: CSV begins with a header/],
  ] as const
  await inParallel(damaged, async ([name, bytes, sentence]) => {
    const { code, stderr } = await load(t, server, [await write(t, name, bytes)])
    t.equal(code, 1, name)
    t.match(stderr, sentence)
    hasNoStackTrace(t, stderr)
  })
})

t.test('a run that cannot start fails with one sentence, and stores nothing', async (t) => {
  const server = await start(t)
  const file = await write(t, 'orders.ndjson', orders(2))
  const folder = folderOf(t)
  await mkdir(join(folder, 'sub'))
  const readOnly = await server.makeKey({ scopes: ['read'] })
  const failing: [string[], string | RegExp, string?][] = [
    [[file, 'gone.ndjson'], 'sluice: There is no file gone.ndjson.'],
    [[folder], `sluice: ${folder} is a folder; specify the files in it.`],
    [['-', '-'], 'sluice: - can be loaded only once.'],
    [[file, '--rejected', join(folder, 'no', 'where')], /cannot be written: ENOENT/],
    [[file, '--rejected', join(folder, 'sub')], /sub is a folder; specify a file/],
    [[file], 'sluice: The API key is not known.', 'sluice_unknown'],
    [[file], /sluice: .*scope.*ingest/, readOnly.token],
    [
      [file, '--url', 'http://127.0.0.1:1'],
      /^sluice: No server responds at http:\/\/127\.0\.0\.1:1 \(.*\)\. Run npm start/m,
    ],
    [[file, '--connections', '0'], 'sluice: --connections 0: it must be from 1 to 16.'],
    [[file, '--url', 'ftp://x'], /--url <url>.* It must be an http: or https: URL\./],
    [[], /missing required argument 'file'/],
  ]
  await inParallel(failing, async ([args, sentence, key]) => {
    const { code, stderr } = await load(t, { ...server, key: key ?? server.key }, args)
    t.equal(code, 1, args.join(' '))
    t.match(stderr, sentence)
    hasNoStackTrace(t, stderr)
  })
  t.same(await stored(server), [])
})

t.test('a response that is not from Sluice is recognised', async (t) => {
  const file = await write(t, 'orders.ndjson', orders(2))
  for (const [status, headers, body, sentence] of [
    [
      200,
      { 'content-type': 'text/html' },
      '<html>',
      'answered 200 text/html, which is not a response of Sluice. Specify another server with --url. If Sluice is below a path, add it to --url',
    ],
    [200, { 'content-type': 'application/json' }, '{}', 'answered 200, which is not a response of Sluice'],
    [404, {}, '', 'answered 404, which is not a response of Sluice'],
    [
      301,
      { location: 'https://elsewhere.example/' },
      '',
      'redirects to https://elsewhere.example/: specify that server',
    ],
  ] as const) {
    const url = await startStub(t, (_request, response) => response.writeHead(status, headers).end(body))
    const { code, stderr } = await load(t, { url, key: 'k' }, [file])
    t.equal(code, 1)
    t.match(stderr, sentence)
  }
})

t.test('a response that counts fewer records than were sent is an error', async (t) => {
  const url = await startStub(t, (_request, response) => report(response, { created: 1 }))
  const { code, stderr } = await load(t, { url, key: 'k' }, ['-'], orders(2))
  t.equal(code, 1)
  t.match(stderr, 'received 2 records, but reported results for 1')
})
