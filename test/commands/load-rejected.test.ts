import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { folderOf, load, order, orders, start, stored, write } from '../helpers/load.ts'

// — CSV —

t.test('CSV: mapped columns become attributes, the others data; cells are text without --json', async (t) => {
  const server = await start(t)
  const csv =
    'number,kind,total,paid,"says ""hello"""\r\n' +
    '0012,order.placed,12.50,true,"two\r\nlines, a comma"\r\n' +
    '\r\n' +
    '0013,order.placed,,,\r\n'
  const options = ['--map', 'id=number', '--map', 'type=kind', '--set', 'source=shop', '--json', 'total']
  t.match(await load(t, server, [await write(t, 'orders.csv', csv), ...options]), { code: 0, counts: { created: 2 } })
  const { text, json } = await server.get('/v1/records/shop/0012')
  t.match(json.type, 'order.placed')
  t.match(text, '"data":{"total":12.50,"paid":"true","says \\"hello\\"":"two\\r\\nlines, a comma"}')
  const other = await server.get('/v1/records/shop/0013')
  t.same(other.json.data, { total: null, paid: '', 'says "hello"': '' })
})

t.test('CSV: --set and --map override a column of the same name, and --map id= leaves id in data', async (t) => {
  const server = await start(t)
  const csv = 'source,type,id,kind\nx,credit,7,order.paid\n'
  const options = ['--format', 'csv', '--set', 'source=shop', '--map', 'type=kind', '--map', 'id=']
  t.match(await load(t, server, ['-', ...options], csv), { code: 0 })
  t.match(await stored(server), [
    { source: 'shop', type: 'order.paid', data: { source: 'x', type: 'credit', id: '7' } },
  ])
})

t.test('CSV: an invalid row is rejected with its line number, and its neighbours are stored', async (t) => {
  const server = await start(t)
  const rows = [
    'source,type,id,total,note',
    's,t,1,1,fine',
    's,t,2,1',
    's,t,3,1,"a',
    '',
    '""note"" of three lines"',
    's,t,4,one,fine',
    's,t,5,1,"x"y',
    's,t,6,1,fine',
  ]
  const file = await write(t, 'rows.csv', `${rows.join('\n')}\n`)
  const rejected = join(folderOf(t), 'rejected.csv')
  const { code, counts, stderr } = await load(t, server, [file, '--json', 'total', '--rejected', rejected])
  t.equal(code, 1)
  t.match(counts, { created: 3, rejected: 3, lines: 9 })
  for (const reason of [
    `${file}:3: It has 4 cells, but the header has 5.`,
    `${file}:7: "one" in the column "total" is not JSON. If it is text, omit --json total.`,
    `${file}:8: There is text after a closing quote.`,
  ])
    t.match(stderr, reason)
  t.equal(await readFile(rejected, 'utf8'), `${[rows[0], rows[2], rows[6], rows[7]].join('\n')}\n`)
})

t.test('CSV: a header that does not fit the options is reported, and nothing is stored', async (t) => {
  const server = await start(t)
  const csv = 'number,kind\n1,order\n'
  for (const [options, sentence] of [
    [
      ['--map', 'type=kind'],
      'it has no source, which every record needs (--set source=TEXT, or --map source=COLUMN). Its columns are "number", "kind"',
    ],
    [['--map', 'type=sort', '--set', 'source=s'], 'it has no column "sort". Its columns are "number", "kind"'],
    [
      ['--json', 'total', '--number', 'tax', '--map', 'id=no'],
      'it has no column "no", "total", "tax"; it has no source and no type, which every record needs (--set source=TEXT',
    ],
    [['--map', 'type=kind', '--set', 'type=x', '--set', 'source=s'], 'type is both mapped and set'],
  ] as const) {
    const { code, stderr } = await load(t, server, ['-', '--format', 'csv', ...options], csv)
    t.equal(code, 1)
    t.match(stderr, sentence)
  }
  t.match(
    (await load(t, server, ['-', '--json', 'a', '--null', 'b'], order(1))).stderr,
    '--json and --null are for CSV',
  )
  t.same(await stored(server), [])
})

// — rejected records —

t.test('if one line is rejected, the exit code is 1, and --rejected keeps the line and the reason', async (t) => {
  const server = await start(t)
  const bad = '{"source":"shop","id":"2", "data":{"total":1.50}}'
  const file = await write(t, 'orders.ndjson', `${order(1)}\n\n${bad}\n${order(3)}\n`)
  const rejected = join(folderOf(t), 'rejected.ndjson')
  const { code, counts, stderr } = await load(t, server, [file, '--rejected', rejected])
  t.equal(code, 1)
  t.match(counts, { created: 2, rejected: 1, conflict: 0, lines: 4 })
  t.match(stderr, `${file}:3: /type: `, 'the line number is that of the file')
  t.match(stderr, `sluice: 1 records were not stored: they are in ${rejected}, and the reasons in`)
  t.equal(await readFile(rejected, 'utf8'), `${bad}\n`)
  t.match(await readFile(`${rejected}.reasons`, 'utf8'), /^\S+orders\.ndjson:3: \/type: .*\.\n$/)

  await writeFile(rejected, `${bad.replace('"id"', '"type":"order.placed","id"')}\n`)
  t.match(await load(t, server, [rejected]), { code: 0, counts: { created: 1 } }, 'the corrected line is stored')
})

t.test('a conflict is reported with its reason, and the stored record stays as it is', async (t) => {
  const server = await start(t)
  await server.post({ source: 'shop', type: 'order.placed', id: '2', data: 'first' })
  const { code, counts, stderr } = await load(t, server, ['-'], orders(3))
  t.equal(code, 1)
  t.match(counts, { created: 2, conflict: 1, rejected: 0 })
  t.match(stderr, 'stdin:2: /id: A record with this source and id, but different content, is already stored')
  t.equal((await server.get('/v1/records/shop/2')).json.data, 'first')
})

t.test('if all lines are rejected, the run continues to the end and writes each line with its reason', async (t) => {
  const server = await start(t)
  const rejected = join(folderOf(t), 'rejected.ndjson')
  const content = '{"source":"","type":"here"}\n'.repeat(2600)
  const { code, counts, stderr } = await load(t, server, ['-', '--rejected', rejected], content)
  t.equal(code, 1)
  t.match(counts, { created: 0, rejected: 2600, lines: 2600 })
  t.equal(await readFile(rejected, 'utf8'), content, 'all lines are written')
  t.equal((await readFile(`${rejected}.reasons`, 'utf8')).split('\n').length, 2601)
  t.match(stderr, '… and 2,580 more')
})

t.test('a run that rejects nothing empties the file of rejected lines', async (t) => {
  const server = await start(t)
  const rejected = await write(t, 'rejected.ndjson', 'of another day\n')
  t.match(await load(t, server, ['-', '--rejected', rejected], order(1)), { code: 0 })
  t.equal(await readFile(rejected, 'utf8'), '')
})

t.test('--rejected is refused if it would overwrite an input', async (t) => {
  const server = await start(t)
  const file = await write(t, 'orders.ndjson', orders(2))
  const { code, stderr } = await load(t, server, [file, '--rejected', file])
  t.equal(code, 1)
  t.match(stderr, `sluice: --rejected would overwrite ${file}, which is an input.`)
  t.equal(await readFile(file, 'utf8'), orders(2))
})

t.test('JSON: a rejected record is written as one line, which loads as JSON and as NDJSON', async (t) => {
  const server = await start(t)
  const folder = folderOf(t)
  const file = await write(t, 'a.json', `[\n${order(1)},\n{\n  "source": "s",\n  "id": "2"\n}\n]`)
  const { code, stderr } = await load(t, server, [file, '--rejected', join(folder, 'r.json')])
  t.equal(code, 1)
  t.match(stderr, `${file}:3: /type:`, 'the line where the record begins')
  const line = await readFile(join(folder, 'r.json'), 'utf8')
  t.equal(line, '{   "source": "s",   "id": "2" }\n')
  const corrected = line.replace('{', '{"type":"t",')
  t.match(await load(t, server, [await write(t, 'm.json', corrected)]), { code: 0, counts: { created: 1 } })
  t.match(await load(t, server, [await write(t, 'm.ndjson', corrected)]), { code: 0, counts: { duplicate: 1 } })
})

t.test('a line over the size limit is rejected alone, even if it is the last and has no newline', async (t) => {
  const server = await start(t)
  const long = 'x'.repeat(17 * 1024 * 1024)
  const { code, counts, stderr } = await load(t, server, ['-'], `${order(1)}\n${long}\n${order(3)}\n${long}`)
  t.equal(code, 1)
  t.match(counts, { created: 2, rejected: 2, lines: 4 })
  t.match(stderr, 'stdin:2: It is longer than 16777216 bytes.\nstdin:4: It is longer than 16777216 bytes.\n')
})
