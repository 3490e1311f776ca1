import { once } from 'node:events'
import { type AddressInfo, connect as connectTo, createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { encodeOffset } from '../../src/lib/offset.ts'
import type { TestApp } from '../helpers/app.ts'
import { type Command, runNode } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { hold, order, start } from '../helpers/load.ts'
import { untilBlocked } from '../helpers/locks.ts'
import { createEmptyDatabase } from '../helpers/postgres.ts'
import { forward, startStub } from '../helpers/proxy.ts'
import { endOf, tail } from '../helpers/tail.ts'
import { until } from '../helpers/until.ts'

const SCRIPT = fileURLToPath(new URL('../../scripts/feed-to-postgres.ts', import.meta.url))

const RECORDS = [
  '{"source":"shop","type":"t","id":"1","data":{"b":12345678901234567890,"a":-0,"a":[1e3, 0.10],"":"\\u00fc\\\\\\""}}',
  '{"source":"shop","type":"t","id":"2","time":"2026-01-31T12:00:00.123456+01:00","subject":"a, \\"b\\"","data":null}',
  '{"source":"shop","type":"other","id":"3","datacontenttype":"text/plain","data_base64":"AAH/","level":3,"ok":true,"text":"NULL"}',
  '{"source":"till/7","type":"t","id":"{4}","dataschema":"https://example.com/s","data":"NULL"}',
  '{"source":"till/7","type":"t","id":"5"}',
]

// — the copy —

t.test('all fields of a record are copied as they are, in the order of the feed', async (t) => {
  const { server, copy, read } = await open(t)
  for (const record of RECORDS) await server.post(record)
  const command = copy()
  await copied(server, command)
  t.same(await read(), await original(server))
  command.child.kill('SIGTERM')
  t.same(await endOf(command), { code: 0, stdout: '', stderr: '' })
})

t.test('with a filter, it copies only what matches, and refuses to continue with another filter', async (t) => {
  const { server, copy, read } = await open(t)
  for (const record of RECORDS) await server.post(record)
  const filter = ['--type', 'other', '--type', 't', '--source-prefix', 'till']
  const command = copy(filter)
  await copied(server, command)
  t.same(
    (await read()).map(({ id }) => id),
    ['{4}', '5'],
  )
  command.child.kill('SIGKILL')
  t.match(await endOf(copy([])), {
    code: 1,
    stderr:
      'feed-to-postgres: The target database has the records of the filter {"sourcePrefix":"till","type":["other","t"]}, not {}. Use the same filter, or another database or schema.\n',
  })
})

// — exactly once —

t.test(
  'killed after a page, before its offset is stored, or before the server has it, it copies each record once',
  async (t) => {
    const { server, target, copy, read } = await open(t)
    await postMany(server, 1, 4500)
    let held: { of: RegExp; gate: ReturnType<typeof hold> } | undefined
    const url = await startStub(t, async (request, response, body) => {
      if (held?.of.test(`${request.method} ${request.url}`)) await held.gate.arrive()
      // The client may be gone.
      const respond = await forward(server.url, request, body).catch(() => undefined)
      respond?.(response)
    })
    /** Starts a copy, kills it while the stub holds this request, and returns how many records it has copied until then. */
    const killAt = async (of: RegExp) => {
      held = { of, gate: hold() }
      const command = copy([], url)
      await held.gate.arrived
      await kill(command)
      held.gate.release()
      held = undefined
      return (await read()).length
    }
    t.equal(await killAt(/^GET .*offset=(?!1(?:0{40}))/), 1000, 'after the first page')

    const db = connect(target.ownerUrl)
    t.teardown(() => db.destroy())
    const watcher = connect(target.ownerUrl)
    t.teardown(() => watcher.destroy())
    await db.transaction().execute(async (lock) => {
      // The row can be locked, but not changed: the process has inserted the records, and waits to store the offset.
      await sql`LOCK TABLE feed_offset IN SHARE MODE`.execute(lock)
      const command = copy()
      await untilBlocked(watcher, 'feed_offset')
      await kill(command)
    })
    const { json } = await server.get('/v1/consumers/archive')
    t.equal(json.offset, (await read()).at(-1)?.cursor, 'before the offset of the second page is stored')

    t.equal(await killAt(/^PUT /), 2000, 'before the server has the offset of the second page')
    const last = copy()
    await copied(server, last)
    await postMany(server, 4501, 5000)
    await copied(server, last)
    t.same(await read(), await original(server))
    t.equal((await read()).length, 5000)
    last.child.kill('SIGINT')
    t.same(await endOf(last), { code: 0, stdout: '', stderr: '' })
  },
)

t.test('when the target database fails, it says so once and continues', async (t) => {
  const { server, target, copy, read } = await open(t)
  await server.post(order(1))
  const command = copy()
  await copied(server, command)
  const db = connect(target.superUrl)
  t.teardown(() => db.destroy())
  await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'feed-to-postgres'`.execute(db)
  await server.post(order(2))
  await copied(server, command)
  t.same(await read(), await original(server))
  t.match(command.stderr(), /^The target database: .*; trying again until it succeeds\n$/)
})

t.test('if the response to a COMMIT is lost, it finds the offset stored and goes on', async (t) => {
  const { server, target, copy, read } = await open(t)
  await postMany(server, 1, 1500)
  const proxy = await loseCommits(t, target.ownerUrl)
  const command = copy([], server.url, proxy.url)
  await copied(server, command)
  // The tables, the first page, twice nothing because it is stored already, and the second page.
  t.equal(proxy.commits(), 5)
  t.same(await read(), await original(server))
  t.equal(command.stderr().match(/trying again/g)?.length, 1, command.stderr())
})

t.test('of two processes that copy to one database, one ends, and no record is there twice', async (t) => {
  const { server, copy, read } = await open(t)
  await server.post(order(1))
  const first = copy()
  await copied(server, first)
  const second = copy([], server.url, undefined, 'other')
  await until('two waiting readers', () => server.app.feed.readers.used === 2)
  await server.post(order(2))
  t.match(await Promise.race([first, second].map(endOf)), {
    code: 1,
    stderr: 'feed-to-postgres: Another process copies to the same database. Stop one of them.\n',
  })
  t.same(await read(), await original(server))
})

// — errors —

t.test('if the server was set back, it ends and says what to do', async (t) => {
  const { server, target, copy } = await open(t)
  await server.post(order(1))
  const command = copy()
  await copied(server, command)
  await kill(command)
  const ahead = encodeOffset({ epoch: 99, xid: '1000', n: 1 })
  const db = connect(target.ownerUrl)
  await sql`UPDATE feed_offset SET "offset" = ${ahead}`.execute(db).finally(() => db.destroy())
  t.match(await endOf(copy()), {
    code: 1,
    stderr: new RegExp(`^feed-to-postgres: .* The cursor is ${ahead}\\.\\n$`),
  })
})

t.test('what cannot succeed ends it with one sentence', async (t) => {
  const { server, target, copy } = await open(t)
  await server.post(order(1))
  const withPassword = (password: string) => Object.assign(new URL(target.ownerUrl), { password }).href
  for (const [command, sentence] of [
    [copy([], server.url, ''), 'TARGET_DATABASE_URL must be a URL like postgres://user@host:5432/database'],
    [copy([], server.url, 'postgres://u:p@ss@h/d'), 'TARGET_DATABASE_URL contains an unencoded @'],
    [copy([], server.url, withPassword('wrong')), 'The target database: no connection to PostgreSQL: password authent'],
    [
      copy([], server.url, withPassword('')),
      'The target database: no connection to PostgreSQL: it asks for a password',
    ],
    [copy(['--source-prefix=']), '--source-prefix is empty.'],
    [copy([], 'http://127.0.0.1:1'), 'No server responds at http://127.0.0.1:1 ('],
  ] as const) {
    const { code, stderr } = await endOf(command)
    t.equal(code, 1)
    t.ok(stderr.startsWith(`feed-to-postgres: ${sentence}`), stderr)
    t.notMatch(stderr, /\n\s+at |node:internal/, 'no stack trace')
  }
})

t.test('it does not move a consumer that another program uses', async (t) => {
  const { server, copy } = await open(t)
  await server.post(order(1))
  const other = tail(t, server, ['--consumer', 'archive', '--limit', '1'])
  t.equal(await other.exit, 0)
  t.match(await endOf(copy()), {
    code: 1,
    stderr: /^feed-to-postgres: The consumer "archive" exists, but the target database has no records yet\. /,
  })
})

// — helpers —

/** A server, another database, and what copies the records of the one to the other. */
async function open(t: Test) {
  const server = await start(t)
  const target = await createEmptyDatabase(t)
  const db = connect(target.ownerUrl)
  t.teardown(() => db.destroy())
  const copy = (args: string[] = [], url = server.url, to = target.ownerUrl, consumer = 'archive') =>
    runNode(t, [SCRIPT, '--consumer', consumer, ...args], {
      SLUICE_URL: url,
      SLUICE_KEY: server.key,
      TARGET_DATABASE_URL: to,
    })
  const read = async () => {
    const { rows } = await sql<Row>`SELECT cursor, ${FIELDS}, "time"::text FROM feed_records ORDER BY cursor`.execute(
      db,
    )
    return rows
  }
  return { server, target, copy, read }
}

type Row = Record<string, string | null>

const FIELDS = sql`source, id, type, subject, dataschema, datacontenttype, extensions::text, data::text,
  data_bytes::text, received_at::text`

/** The records of the server, as they should be in the target. */
async function original({ database }: TestApp): Promise<Row[]> {
  const db = connect(database.ownerUrl)
  const { rows } = await sql<Row & { epoch: string; xid: string; n: string }>`
    SELECT epoch, xid, n, ${FIELDS}, coalesce("time", received_at)::text AS "time"
    FROM sluice.records ORDER BY epoch, xid, n`
    .execute(db)
    .finally(() => db.destroy())
  return rows.map(({ epoch, xid, n, ...row }) => ({
    cursor: encodeOffset({ epoch: Number(epoch), xid, n: Number(n) }),
    ...row,
  }))
}

/** Waits until the consumer has read everything. @throws if the process ends before */
async function copied(server: TestApp, { exit, stderr }: Command, consumer = 'archive'): Promise<void> {
  let hasEnded = false
  void exit.then(() => {
    hasEnded = true
  })
  await until('everything to be copied', async () => {
    if (hasEnded) throw new Error(`the process has ended: ${stderr()}`)
    const { json } = await server.get(`/v1/consumers/${consumer}`)
    return json.lag?.records === 0
  })
}

const postMany = (server: TestApp, from: number, to: number) =>
  server.post(`[${Array.from({ length: to - from + 1 }, (_, at) => order(from + at)).join(',')}]`)

async function kill({ child, exit }: Command): Promise<void> {
  child.kill('SIGKILL')
  await exit
}

/** A proxy in front of the server of a URL that cuts the connection after the second and the third COMMIT, before their responses. */
async function loseCommits(t: Test, to: string): Promise<{ url: string; commits(): number }> {
  const { port, hostname } = new URL(to)
  let commits = 0
  const proxy = createServer((socket) => {
    const onward = connectTo(Number(port), hostname)
    onward.on('data', (bytes) => {
      // CommandComplete (PostgreSQL manual, section 54.7).
      if (bytes.includes('COMMIT\0')) commits++
      if (bytes.includes('COMMIT\0') && [2, 3].includes(commits)) socket.destroy()
      else socket.write(bytes)
    })
    socket.on('data', (bytes) => onward.write(bytes))
    for (const [one, other] of [
      [socket, onward],
      [onward, socket],
    ] as const)
      one.on('error', () => {}).on('close', () => other.destroy())
  })
  await once(proxy.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => proxy.close())
  const own = String((proxy.address() as AddressInfo).port)
  return { url: Object.assign(new URL(to), { port: own }).href, commits: () => commits }
}
