import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { sql } from 'kysely'
import t from 'tap'
import { connect } from '../helpers/connect.ts'
import { inParallel, order, start } from '../helpers/load.ts'
import { forward, sendProblem, startStub } from '../helpers/proxy.ts'
import { missing } from '../helpers/skipping.ts'
import { endOf, idsOf, printed, tail } from '../helpers/tail.ts'
import { until } from '../helpers/until.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

/** Records of every kind: numbers that a double cannot hold, line breaks, bytes, no data, and what a terminal would interpret. */
const RECORDS = [
  '{"source":"shop","type":"order.placed","id":"1","data":{"total":12.50,"n":12345678901234567890}}',
  '{"source":"shop","type":"order.placed","id":"2","subject":"a, \\"b\\"","time":"2026-01-31T12:00:00.123456Z","data":{\n "x": [\n "]}", {"y": "[{"}\n ]\n}}',
  '{"source":"shop","type":"order.paid","id":"3","datacontenttype":"text/plain","data_base64":"AAH/","level":3}',
  '{"source":"till/7","type":"order.paid","id":"4","subject":"\\u202etxt"}',
  '{"source":"till/7","type":"closed","id":"5","subject":"late","data":"x\\r\\ny\\u001b[31m"}',
]

/** Contains all RECORDS. No test adds any. */
const server = await start(t)
for (const record of RECORDS) {
  const { status, text } = await server.post(record)
  if (status !== 201) throw new Error(text)
}

t.test('in a pipe, each record is a line of JSON, as the feed gives it', async (t) => {
  const { text } = await server.get('/v1/feed', { accept: 'application/x-ndjson' })
  t.same(await endOf(tail(t, server, ['--from', 'start', '--limit', '5'])), { code: 0, stdout: text, stderr: '' })
})

t.test('filters have the names that sluice export has, and --type may be repeated', async (t) => {
  const cases: [string[], string[]][] = [
    [
      ['--source', 'shop', '--limit', '3'],
      ['1', '2', '3'],
    ],
    [
      ['--source-prefix', 'till', '--limit', '2'],
      ['4', '5'],
    ],
    [
      ['--type', 'order.paid', '--limit', '2'],
      ['3', '4'],
    ],
    [
      ['--type', 'order.placed', '--type', 'closed', '--limit', '3'],
      ['1', '2', '5'],
    ],
    [['--subject', 'late', '--limit', '1'], ['5']],
  ]
  await inParallel(cases, async ([args, ids]) => {
    const command = tail(t, server, ['--from', 'start', ...args])
    t.equal(await command.exit, 0, command.stderr())
    t.same(idsOf(command), ids, args.join(' '))
  })
})

t.test('it begins at the start, at an offset, or now, and prints what is added later', async (t) => {
  const server = await start(t)
  for (const n of [1, 2, 3]) await server.post(order(n))
  const { json } = await server.get('/v1/feed')
  const commands = [['--from', 'start'], ['--from', '-1'], ['--from', json[1].cursor], ['--from', 'now'], []].map(
    (args) => tail(t, server, args),
  )
  await waiting(server, commands.length)
  for (const n of [4, 5]) await server.post(order(n))
  for (const [index, ids] of [
    ['1', '2', '3', '4', '5'],
    ['1', '2', '3', '4', '5'],
    ['3', '4', '5'],
    ['4', '5'],
    ['4', '5'],
  ].entries()) {
    const command = commands[index] as (typeof commands)[number]
    await printed(command, ids.length)
    command.child.kill('SIGINT')
    t.same(await command.exit, 0)
    t.same(idsOf(command), ids)
    t.equal(command.stderr(), '')
  }
})

// — from a time —

// The order of the feed is that of commits, and that of the times of receipt only nearly.
t.test('from a time, no record that was received at it or later is missing', async (t) => {
  const server = await start(t)
  const owner = connect(server.database.ownerUrl)
  t.teardown(() => owner.destroy())
  for (const [at, second] of ['01', '05', '04', '06', '09'].entries()) {
    await server.post(order(at + 1, { type: at === 3 ? 'other' : 'order.placed' }))
    const time = `2026-01-31T12:00:${second}.000001Z`
    await sql`UPDATE sluice.records SET received_at = ${time}::timestamptz WHERE id = ${String(at + 1)}`.execute(owner)
  }
  const cases: [string[], string[]][] = [
    [['2026-01-31T12:00:00Z'], ['1', '2', '3', '4', '5']],
    [['2026-01-31T12:00:01.000001Z'], ['1', '2', '3', '4', '5']],
    // An hour earlier is outside of the years that the server accepts.
    [['0001-01-01T00:00:00Z'], ['1', '2', '3', '4', '5']],
    [['2026-01-31T12:00:01.000002Z'], ['2', '3', '4', '5']],
    [['2026-01-31T13:00:05+01:00'], ['2', '3', '4', '5']],
    [['2026-01-31T12:00:06Z'], ['4', '5']],
    [['2026-01-31T12:00:06Z', '--type', 'order.placed'], ['5']],
    [
      ['2026-01-31T12:00:05Z', '--type', 'order.placed', '--type', 'other'],
      ['2', '3', '4', '5'],
    ],
  ]
  await inParallel(cases, async ([args, ids]) => {
    const command = tail(t, server, ['--from', ...args, '--limit', String(ids.length)])
    t.equal(await command.exit, 0, command.stderr())
    t.same(idsOf(command), ids, args.join(' '))
  })
  const later = tail(t, server, ['--from', '2026-01-31T12:00:10Z', '--limit', '1'])
  await waiting(server, 1)
  await server.post(order(6))
  t.equal(await later.exit, 0)
  t.same(idsOf(later), ['6'], 'if there is none yet, it begins at the end of the feed')
})

t.test('from a time, it does not matter that an earlier record was received half an hour later', async (t) => {
  const server = await start(t)
  const owner = connect(server.database.ownerUrl)
  t.teardown(() => owner.destroy())
  for (const [at, time] of ['10:00', '11:00', '13:01', '12:31', '13:02'].entries()) {
    await server.post(order(at + 1))
    const received = `2026-01-31T${time}:00Z`
    await sql`UPDATE sluice.records SET received_at = ${received}::timestamptz WHERE id = ${String(at + 1)}`.execute(
      owner,
    )
  }
  const { json } = await server.get('/v1/feed')
  for (const isSlow of [false, true]) {
    let search = ''
    const url = await startStub(t, async (request, response, body) => {
      if (isSlow && request.url?.includes('receivedUntil'))
        return sendProblem(response, 503, { code: 'query_timeout', detail: 'Slow.', retryable: true })
      if (request.url?.includes('receivedFrom')) search = request.url
      return (await forward(server.url, request, body))(response)
    })
    const command = tail(t, { ...server, url }, ['--from', '2026-01-31T13:00:00Z', '--limit', '3'])
    t.match(await endOf(command), { code: 0, stderr: '' })
    t.same(idsOf(command), ['3', '4', '5'])
    t.equal(
      new URL(search, url).searchParams.get('cursor'),
      isSlow ? null : json[1].cursor,
      'the search begins an hour earlier, or at the start if that place cannot be found in time',
    )
  }
})

t.test('from a time, a record that is added while the place is looked for is not missing', async (t) => {
  const server = await start(t)
  await server.post(order(1))
  const searchTime = new Date(Date.now() + 1).toISOString()
  await until('the clock to pass the time', () => Date.now() > Date.parse(searchTime) + 1)
  let searches = 0
  const url = await startStub(t, async (request, response, body) => {
    const respond = await forward(server.url, request, body)
    if (request.url?.includes('receivedFrom') && searches++ === 0) await server.post(order(2))
    respond(response)
  })
  const command = tail(t, { url, key: server.key }, ['--from', searchTime, '--limit', '1'])
  await until('the search', () => searches > 0)
  // So that the command ends if the other one is missing.
  await server.post(order(3))
  t.equal(await command.exit, 0)
  t.same(idsOf(command), ['2'])
})

// — errors —

t.test('what cannot succeed ends it with one sentence', async (t) => {
  const ingestOnly = await server.makeKey({ scopes: ['ingest'] })
  const ahead = await startStub(t, (_request, response) =>
    sendProblem(response, 409, { code: 'offset_ahead', detail: 'The database was set back.', retryable: false }),
  )
  const other = await startStub(t, (_request, response) => response.end('[]'))
  const offset = '9'.repeat(49)
  const cases: [string[], string | RegExp, { url: string; key: string }?][] = [
    [['--from', 'yesterday'], /^sluice: --from must be start, now, an offset .* or an RFC 3339 time such as .*Z\.\n$/],
    [['--from', '2026-01-31'], 'if it is in UTC, write 2026-01-31T00:00:00Z.'],
    [['--from', '2026-02-30T00:00:00Z'], '--from '],
    [['--from', offset], 'sluice: --from is not an offset of this service, or was damaged.'],
    [['--source-prefix='], 'sluice: --source-prefix is empty.'],
    [['--limit', '0'], "error: option '--limit <n>' argument '0' is invalid. It must be a whole number from 1."],
    [['--consumer', 'a', '--from', 'then'], 'sluice: --from must be'],
    // A client removes this from a path.
    [['--consumer', '..'], "error: option '--consumer <name>' argument '..' is invalid. It must have 1 to 128 letters"],
    [['orders'], 'error: too many arguments'],
    [[], 'sluice: The API key is not known.', { ...server, key: 'sluice_unknown' }],
    [[], /^sluice: .*scope.*read/, { ...server, key: ingestOnly.token }],
    [[], 'sluice: No server responds at http://127.0.0.1:1 (', { url: 'http://127.0.0.1:1', key: 'k' }],
    [
      [],
      `sluice: ${other} answered 200 without Stream-Next-Offset, which is not a response of Sluice.`,
      { url: other, key: 'k' },
    ],
    [['--from', offset], `sluice: The database was set back. The cursor is ${offset}.\n`, { url: ahead, key: 'k' }],
  ]
  await inParallel(cases, async ([args, sentence, target]) => {
    const { code, stdout, stderr } = await endOf(tail(t, target ?? server, args))
    t.same({ code, stdout }, { code: 1, stdout: '' })
    t.match(stderr, sentence)
    t.notMatch(stderr, /\n\s+at |node:internal/, 'no stack trace')
  })
})

t.test('a key that is revoked ends it', async (t) => {
  const server = await start(t)
  const { id, token } = await server.makeKey({ scopes: ['read'] })
  const command = tail(t, { ...server, key: token }, [])
  await waiting(server, 1)
  await server.app.inject({
    method: 'DELETE',
    url: `/v1/keys/${id}`,
    headers: { authorization: `Bearer ${server.key}` },
  })
  t.match(await endOf(command), { code: 1, stdout: '', stderr: /^sluice: .*\.\n$/ })
})

t.test('the commands in the manual and in the help are right', async (t) => {
  const manual = await readFile(new URL('../../src/client/README.md', import.meta.url), 'utf8')
  const { stdout } = await endOf(tail(t, server, ['--help']))
  const commands = [...`${manual}${stdout}`.matchAll(/^ *sluice tail( --[^|\n]*)?(?:$| \|)/gm)]
  t.equal(commands.length, 6)
  const nowhere = { url: 'http://127.0.0.1:1', key: 'k' }
  await inParallel(commands, async ([line, args = '']) => {
    const { stderr } = await endOf(tail(t, nowhere, args.split(' ').filter(Boolean)))
    t.match(stderr, /^sluice: No server responds/, line)
  })
})

// — terminals —

const skip = missing('script')

t.test('on a terminal, a record is a line for people, with colours unless they are unwanted', { skip }, async (t) => {
  const text = await runOnTerminal(['--from', 'start', '--limit', '5'], { NO_COLOR: '1' })
  const lines = text.split('\r\n')
  t.match(
    lines[0],
    /^\d{4}-\d\d-\d\dT[\d:.]+Z {2}shop {2}order\.placed {2}1 {2}\{"total":12\.50,"n":12345678901234567890\}$/,
  )
  t.equal(lines[1], '2026-01-31T12:00:00.123456Z  shop  order.placed  2  a, "b"  {"x":["]}",{"y":"[{"}]}')
  t.match(lines[2], /Z {2}shop {2}order\.paid {2}3 {2}"AAH\/"$/)
  t.match(lines[3], /Z {2}till\/7 {2}order\.paid {2}4 {2}\\u202etxt$/)
  t.match(lines[4], /Z {2}till\/7 {2}closed {2}5 {2}late {2}"x\\r\\ny\\u001b\[31m"$/)
  t.equal(lines.length, 6)
  t.notOk(text.includes('\u001b'), 'nothing that the terminal interprets')
  const coloured = await runOnTerminal(['--from', 'start', '--limit', '1'])
  t.ok(coloured.includes('\u001b[36mshop\u001b[39m'))
})

// — helpers —

/** Waits until this number of readers waits for records. */
const waiting = ({ app }: Awaited<ReturnType<typeof start>>, count: number) =>
  until(`${count} waiting readers`, () => app.feed.readers.used === count)

async function runOnTerminal(args: string[], env: Record<string, string> = {}): Promise<string> {
  const command = `${process.execPath} ${MAIN} tail ${args.join(' ')}`
  const { PATH, NODE_COMPILE_CACHE } = process.env
  const { stdout } = await promisify(execFile)('script', ['-qec', command, '/dev/null'], {
    env: { PATH, NODE_COMPILE_CACHE, TERM: 'xterm', SLUICE_URL: server.url, SLUICE_KEY: server.key, ...env },
  })
  return stdout
}
