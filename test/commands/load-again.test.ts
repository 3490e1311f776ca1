import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import t from 'tap'
import { folderOf, inParallel, load, order, orders, start, write } from '../helpers/load.ts'

const SET = ['--set', 'source=s', '--set', 'type=t']

// The ids of records without an id depended on what the options made of the lines, so this advice stored the file twice.
t.test('the options that a rejection names store what is missing, and nothing twice', async (t) => {
  const server = await start(t)
  await inParallel(
    [
      ['a.csv', 'city,temp\nA,1\nB,nan\nC,3\nD,4\n', ['--number', 'temp'], ['--null', 'nan']],
      ['b.csv', 'city,time\nA,2026-01-01\nB,2026-01-01T00:00:00Z\n', [], ['--time-format', 'iso']],
      [
        'c.ndjson',
        '{"n":1,"time":"2026-01-01T00:00:00Z"}\n{"n":2,"time":"2026-01-01"}\n',
        [],
        ['--time-format', 'iso'],
      ],
      ['d.json', '[{"n":1,"time":"2026-01-01"},\n{"n":2,"time":"2026-01-01T00:00:00Z"}]', [], ['--time-format', 'iso']],
    ] as const,
    async ([name, content, options, added]) => {
      const file = await write(t, name, content)
      const args = [file, ...SET, '--set', `file=${name}`, ...options]
      const first = await load(t, server, args)
      t.match(first, { code: 1, counts: { rejected: 1, duplicate: 0 } }, name)
      t.match(first.stderr, added[0], 'the option is named')
      t.match(first.stderr, /Do not edit the input: records without an id would be stored twice/)
      const { created = 0 } = first.counts
      t.match(await load(t, server, [...args, ...added]), { code: 0, counts: { created: 1, duplicate: created } }, name)
    },
  )
})

t.test('a file of rejected lines has ids of its own, and the input still has the ids that it had', async (t) => {
  const server = await start(t)
  const file = await write(t, 'a.csv', 'n,text\n1,a\nx,b\n3,c\n')
  const rejected = join(folderOf(t), 'r.csv')
  const options = [...SET, '--number', 'n']
  t.match(await load(t, server, [file, ...options, '--rejected', rejected]), { counts: { created: 2, rejected: 1 } })
  await writeFile(rejected, (await readFile(rejected, 'utf8')).replace('x,', '2,'))
  t.match(await load(t, server, [rejected, ...options]), { code: 0, counts: { created: 1 } })
  t.match(await load(t, server, [file, ...options]), { counts: { created: 0, duplicate: 2, rejected: 1 } })
})

// Up to 999 good records before the fault were not stored, and the same command ended at the same line for ever.
t.test('records before a fault are stored if they have ids, and the message says what to correct', async (t) => {
  const server = await start(t)
  const rows = (from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, at) => `${from + at},x,y\n`).join('')
  const cases = [
    ['quote.csv', `id,a,b\n${rows(1, 1500)}1501,x,"open`, { created: 1500, rejected: 1 }, 'quote.csv:1502: A quote that opens in it is never closed.'],
    ['lines.csv', `id,a,b\n${rows(1, 1500)}1501,x,"open\nmore\ntext\n`, { created: 1500 }, 'a quote that opens on line 1502 is never closed. Everything up to line 1,501 of'],
    ['none.csv', `n,a,b\n${rows(1, 1500)}1501,x,"open\nmore\ntext\n`, { created: 1000 }, 'a quote that opens on line 1502 is never closed. Everything up to line 1,001 of'],
    ['cut.json', `[${orders(1500, () => ({ source: 'cut' })).trim().replaceAll('\n', ',\n')},\n{"source":"sh`, { created: 1500 }, 'it ends within the record that begins on line 1501. Everything up to line 1,500 of'],
    ['line.json', `[${order(1)},${order(2)},{"source":"sh`, { created: 2 }, /line\.json cannot be read to its end: it ends within the record that begins on line 1\. To continue, correct/],
    ['cut.ndjson.gz', gzipSync(orders(20_000, () => ({ source: 'gz' }))).subarray(0, -500), undefined, /cannot be read beyond line \d+: unexpected end of file\. Everything up to line [\d,]+ of/],
  ] as const // biome-ignore format: a table
  await inParallel(cases, async ([name, content, counts, message]) => {
    const file = await write(t, name, content as string)
    const options = name.endsWith('.csv') ? ['--set', `source=${name}`, '--set', 'type=t'] : []
    const loaded = await load(t, server, [file, ...options])
    t.equal(loaded.code, 1)
    t.match(loaded.stderr, message)
    t.notMatch(loaded.stderr, 'To continue, run')
    if (counts === undefined) t.not(loaded.counts.created, 0, name)
    else t.match(loaded.counts, counts, name)
    if (!('rejected' in (counts ?? {})))
      t.match(loaded.stderr, /To continue, correct the file(?: after that line)?, and run the same command again\./)
  })
})
