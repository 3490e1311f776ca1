import { Socket } from 'node:net'
import pg from 'pg'
import t, { type Test } from 'tap'
import {
  type Connection,
  type CustomQuery,
  connectionOf,
  isBusy,
  processIdOf,
  replaceBind,
  runCustomQuery,
  sendCancel,
  withSetUp,
} from '../../src/postgres/pg-internals.ts'
import { checkPinned } from '../helpers/pinned.ts'
import { openTestServer } from '../helpers/postgres.ts'
import { until } from '../helpers/until.ts'

// If one of these tests fails after an update, src/postgres/pg-internals.ts no longer matches the source of the driver.

const { superUrl: connectionString } = await openTestServer()

t.test('package.json pins the installed driver', async (t) => checkPinned(t, 'pg', ['pg-pool', 'pg-protocol']))

t.test('connection: the protocol connection, with the socket', async (t) => {
  const client = await openClient(t)
  const connection = connectionOf(client)
  t.ok(connection instanceof pg.Connection, 'client.connection is a Connection')
  t.ok(connection.stream instanceof Socket, 'its stream is the socket')
  t.equal(connection.stream.remotePort, client.port, 'the socket is that of the server')
  const lost = client.query('SELECT pg_sleep(60)').catch((error) => error)
  connection.stream.destroy()
  const error = await lost
  // sqlstate.ts recognises it by that.
  t.equal(error.constructor, Error, 'a lost connection is reported as a plain Error')
  t.equal(error.code, undefined, 'without a code')
})

t.test('processID: the process of the session, known after the login', async (t) => {
  const client = await openClient(t)
  const { rows } = await client.query('SELECT pg_backend_pid() AS pid')
  t.equal(processIdOf(client), rows[0].pid)
})

t.test('readyForQuery: false exactly while a statement runs', async (t) => {
  const client = await openClient(t)
  t.equal(isBusy(client), false, 'after the login')
  const statement = client.query('SELECT pg_sleep(0)')
  t.equal(isBusy(client), true, 'during a statement')
  await statement
  t.equal(isBusy(client), false, 'after it')
  await t.rejects(client.query('SELECT 1 / 0'))
  await client.query('SELECT')
  t.equal(isBusy(client), false, 'after a failed one')
})

t.test(
  'bind: called once for a statement with parameters, with these members, between Parse and Describe',
  async (t) => {
    const client = await openClient(t)
    const connection = connectionOf(client)
    const own = (connection as unknown as { bind(message: object): void }).bind.bind(connection)
    const calls = recordCalls(connection, ['query', 'parse', 'describe', 'execute', 'flush', 'sync', 'close'])
    replaceBind(client, (message) => {
      calls.push(['bind', message])
      own(message)
    })

    const { rows } = await client.query({
      name: 'add',
      text: 'SELECT $1::integer + $2::integer AS sum',
      values: [1, 2],
    })
    t.same(rows, [{ sum: 3 }])
    const names = calls.map(([name]) => name)
    t.same(names, ['parse', 'bind', 'describe', 'execute', 'sync'])
    const [, message] = calls[1] as [string, Parameters<Parameters<typeof replaceBind>[1]>[0]]
    const { valueMapper, ...members } = message
    t.same(members, { portal: '', statement: 'add', values: [1, 2], binary: undefined })
    const bytes = Buffer.from([0])
    for (const [value, mapped] of [
      [7, '7'],
      ['text', 'text'],
      [true, 'true'],
      [null, null],
      [undefined, null],
      [bytes, bytes],
      [['a', null], '{"a",NULL}'],
      [{ a: 1 }, '{"a":1}'],
    ]) {
      t.same(valueMapper(value), mapped, `valueMapper(${JSON.stringify(value)})`)
    }

    calls.length = 0
    await client.query({ name: 'add', text: 'SELECT $1::integer + $2::integer AS sum', values: [3, 4] })
    t.same(
      calls.map(([name]) => name),
      ['bind', 'describe', 'execute', 'sync'],
      'a statement with a name is parsed once',
    )
  },
)

t.test('a custom query: these methods, in this order', async (t) => {
  const client = await openClient(t)
  await client.query('CREATE TEMPORARY TABLE target (value text)')
  const connection = connectionOf(client)
  const sql = `SELECT 7, 'text'; COPY target FROM STDIN`

  const copied = await calledOn(client, {
    submit: (to) => to.query(sql),
    // A CopyData and a CopyDone message.
    handleCopyInResponse: ({ stream }) => stream.write('d\0\0\0\x06x\nc\0\0\0\x04', 'latin1'),
  })
  t.same(
    copied.map(([name]) => name),
    [
      'submit',
      'handleRowDescription',
      'handleDataRow',
      'handleCommandComplete',
      'handleCopyInResponse',
      'handleCommandComplete',
      'handleReadyForQuery',
    ],
  )
  const argumentOf = (wanted: string) => copied.find(([name]) => name === wanted)?.[1]
  t.equal(argumentOf('submit'), connection, 'submit gets the connection')
  t.equal(argumentOf('handleCopyInResponse'), connection, 'handleCopyInResponse gets the connection')
  t.same((argumentOf('handleDataRow') as { fields: unknown }).fields, ['7', 'text'], 'a row has its values as text')
  t.same((await client.query('SELECT * FROM target')).rows, [{ value: 'x' }])

  const refused = await calledOn(client, {
    submit: (to) => to.query(sql),
    handleCopyInResponse: (to) => to.sendCopyFail(''),
  })
  t.same(
    refused.map(([name]) => name),
    ['submit', 'handleRowDescription', 'handleDataRow', 'handleCommandComplete', 'handleCopyInResponse', 'handleError'],
    'sendCopyFail ends the COPY with an error, after which handleReadyForQuery is not called',
  )
  t.match(refused.at(-1)?.[1], { code: '57014' })

  const lost = calledOn(client, { submit: (to) => to.query('SELECT pg_sleep(60)') })
  connection.stream.destroy()
  const [name, error] = (await lost).at(-1) as [string, unknown]
  t.equal(name, 'handleError', 'a lost connection ends it with handleError')
  t.ok(error instanceof Error)
})

t.test('sendCancel: the properties of a client, and the methods of a connection', async (t) => {
  const tcp = await openClient(t)
  const properties = { host: String, port: Number, ssl: false, sslNegotiation: 'postgres', processID: Number }
  if (!t.match(tcp, { ...properties, secretKey: Number }, 'of a client without TLS')) return
  const tls = new pg.Client({ host: '/run', ssl: true, sslnegotiation: 'direct' })
  t.match(tls, { host: '/run', ssl: true, sslNegotiation: 'direct' }, 'of a client with TLS on a Unix socket')
  const { connect, requestSsl, cancel } = pg.Connection.prototype as unknown as Record<string, () => void>
  t.match({ connect, requestSsl, cancel }, { connect: Function, requestSsl: Function, cancel: Function }, 'methods')

  // With TLS: tls.test.ts.
  const other = await openClient(t)
  const cancelled = tcp.query('SELECT pg_sleep(60)').catch((error) => error)
  const isActive = `SELECT FROM pg_stat_activity WHERE pid = ${processIdOf(tcp)} AND state = 'active'`
  await until('the statement', async () => (await other.query(isActive)).rowCount === 1)
  await sendCancel(tcp).closed
  t.match(await cancelled, { code: '57014' }, 'the statement is cancelled')
})

t.test('sendCancel: destroy makes it fail', async (t) => {
  const client = await openClient(t)
  const { closed, destroy } = sendCancel(client)
  destroy(new Error('too late'))
  await t.rejects(closed, { message: 'too late' })
})

t.test('withSetUp: a client is lent when its set-up has ended, and not at all if that failed', async (t) => {
  const events: string[] = []
  const ending = Promise.withResolvers<void>()
  const pool = new pg.Pool(
    withSetUp({ connectionString, max: 1 }, async () => {
      events.push('set-up')
      await ending.promise
      events.push('set-up has ended')
    }),
  )
  t.teardown(() => pool.end())
  pool.on('connect', () => {
    events.push('connect')
  })
  const lending = pool.connect().then((client) => {
    events.push('lent')
    return client
  })
  const other = await openClient(t)
  for (let n = 0; n < 5; n++) await other.query('SELECT')
  ending.resolve()
  const client = await lending
  client.release()
  t.same(events, ['set-up', 'set-up has ended', 'connect', 'lent'])

  const failing = new pg.Pool(withSetUp({ connectionString }, () => Promise.reject(new Error('no set-up'))))
  t.teardown(() => failing.end())
  await t.rejects(failing.connect(), { message: 'no set-up' })
  t.equal(failing.totalCount, 0, 'the client is gone')
})

// — helpers —

async function openClient(t: Test): Promise<pg.Client> {
  const client = new pg.Client({ connectionString })
  client.on('error', () => {})
  await client.connect()
  t.teardown(() => client.end())
  return client
}

/** Notes the calls of these methods of a connection, and lets them through. */
function recordCalls(connection: Connection, names: readonly string[]): [name: string, argument: unknown][] {
  const calls: [string, unknown][] = []
  const methods = connection as unknown as Record<string, (...args: unknown[]) => unknown>
  for (const name of names) {
    const own = methods[name] as (...args: unknown[]) => unknown
    methods[name] = (...args) => {
      calls.push([name, args[0]])
      return own.apply(connection, args)
    }
  }
  return calls
}

const BEFORE_END = ['submit', 'handleRowDescription', 'handleDataRow', 'handleCopyInResponse', 'handleCommandComplete']

/** Runs a custom query to its end. @returns which of its methods were called, each with its first argument */
async function calledOn(
  client: pg.Client,
  methods: Pick<CustomQuery, 'submit'> & Partial<CustomQuery>,
): Promise<[name: string, argument: unknown][]> {
  const calls: [string, unknown][] = []
  const { promise: over, resolve } = Promise.withResolvers<void>()
  const called = (name: string, argument: unknown) => {
    calls.push([name, argument])
    const method = methods[name as keyof CustomQuery] as ((argument: unknown) => unknown) | undefined
    method?.(argument)
    if (BEFORE_END.includes(name)) return
    // Any other method is unknown, and the query would wait forever.
    if (!/^handle(?:ReadyForQuery|Error)$/.test(name)) connectionOf(client).stream.destroy()
    resolve()
  }
  // Also notes methods that CustomQuery does not have.
  const query = new Proxy({} as Record<string, unknown>, {
    get: (own, name: string) =>
      own[name] ?? (/^(?:submit|handle.*)$/.test(name) ? (argument: unknown) => called(name, argument) : undefined),
  })
  runCustomQuery(client, query as never)
  await over
  // If the driver called more methods, it would do so before it answers the next query.
  await client.query('SELECT').catch(() => {})
  return calls
}
