import { once } from 'node:events'
import { request } from 'node:http'
import { connect as dial, type Socket } from 'node:net'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { createApp } from '../helpers/app.ts'
import { runServer } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { startNginx } from '../helpers/nginx.ts'
import { missing } from '../helpers/skipping.ts'
import { head, listen } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const NDJSON = { Accept: 'application/x-ndjson' }
const { app, key, get, database, logs } = await createApp(t)
const port = await listen(app)
const root = connect(database.superUrl, 2)
t.teardown(() => root.destroy())
// More than the buffers on the way hold, compressed or not.
await sql`
  INSERT INTO sluice.records (epoch, n, source, id, type, data)
  SELECT 1, n, 'large', n, 't', to_json((SELECT string_agg(md5(n || ' ' || m), '') FROM generate_series(1, 3000) AS m))
  FROM generate_series(1, 200) AS n`.execute(root)

interface Stalled {
  socket: Socket
  /** Reads to the end. @returns how the connection ended, and what was received, in latin1 */
  readAll(): Promise<{ end: string; text: string }>
}

/** Starts an export whose reader stops after the first bytes. */
async function openStalled(t: Test, port: number, headers: Record<string, string>, version = '1.0'): Promise<Stalled> {
  const socket = dial(port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  let text = ''
  socket.setEncoding('latin1').on('data', (part) => {
    text += part
  })
  const end = new Promise<string>((resolve) => {
    socket.once('end', () => resolve('end')).once('error', ({ code }: NodeJS.ErrnoException) => resolve(String(code)))
  })
  const request = head('GET', '/v1/records', { Authorization: `Bearer ${key}`, ...headers })
  socket.write(request.replace('HTTP/1.1', `HTTP/${version}`))
  await new Promise((resolve) => socket.once('data', resolve))
  socket.pause()
  return {
    socket,
    async readAll() {
      socket.resume()
      return { end: await end, text }
    },
  }
}

t.test('a complete HTTP/1.0 response ends with the connection, without a reset', async (t) => {
  const { end, text } = await (await openStalled(t, port, NDJSON)).readAll()
  t.equal(end, 'end')
  t.equal(text.split('\n').length - 1, text.slice(0, text.indexOf('\r\n\r\n') + 4).split('\n').length - 1 + 200)
  t.notMatch(text, /transfer-encoding|content-length/i, 'nothing else shows where it ends')
})

// The end of the connection is the end of the response: an incomplete export looked complete.
t.test('an HTTP/1.0 export that breaks off ends with a reset, whatever the reason and the format', async (t) => {
  const fails = async ({ socket }: Stalled) => {
    // The export may fail before the reader goes on.
    const before = logs.length
    await sql`REVOKE SELECT ON sluice.records FROM sluice_api`.execute(root)
    socket.resume()
    await until('the export to fail', () => logs.slice(before).some(({ msg }) => msg === 'an export broke off'))
    await sql`GRANT SELECT ON sluice.records TO sluice_api`.execute(root)
  }
  for (const [name, headers, breakOff] of [
    ['the next page fails', NDJSON, fails],
    ['the next page fails, CSV', { Accept: 'text/csv' }, fails],
    ['the next page fails, gzip', { ...NDJSON, 'Accept-Encoding': 'gzip' }, fails],
    ['the next page fails, zstd', { ...NDJSON, 'Accept-Encoding': 'zstd' }, fails],
    ['the next page fails, keep-alive', { ...NDJSON, Connection: 'keep-alive' }, fails],
    ['the client closes its half', NDJSON, ({ socket }: Stalled) => socket.end()],
    [
      'too many requests follow',
      { ...NDJSON, Connection: 'keep-alive' },
      ({ socket }: Stalled) =>
        socket.write(head('GET', '/healthz', { Connection: 'keep-alive' }).replace('1.1', '1.0').repeat(40)),
    ],
  ] as const) {
    const stalled = await openStalled(t, port, headers)
    await breakOff(stalled)
    const { end, text } = await stalled.readAll()
    t.equal(end, 'ECONNRESET', name)
    t.match(text, /^HTTP\/1\.1 200 /, name)
    t.notMatch(text, 'Bad Request', `${name}: nothing else in the response`)
  }
  t.equal((await get('/healthz')).status, 200)
})

t.test('an HTTP/1.0 export is reset when a second signal ends the process at once', async (t) => {
  const command = await runServer(t, { DATABASE_URL: database.apiUrl })
  const stalled = await openStalled(t, Number(new URL(command.url).port), NDJSON)
  command.child.kill('SIGINT')
  await command.log(({ msg }) => msg === 'draining')
  // A second signal within 300 ms counts as the same Ctrl-C.
  let ended = false
  void command.exit.then(() => {
    ended = true
  })
  await until('the process to end', () => ended || (command.child.kill('SIGINT') && undefined))
  t.equal(await command.exit, 1)
  t.equal((await stalled.readAll()).end, 'ECONNRESET')
})

// By default, nginx asks for HTTP/1.0. It sends the response on in chunks, and a last chunk if the connection was closed.
t.test('an export that breaks off behind nginx does not look complete', { skip: missing('nginx') }, async (t) => {
  await sql`
    INSERT INTO sluice.records (epoch, n, source, id, type)
    SELECT 1, 1000 + n, 'many', n, 't' FROM generate_series(1, 3000) AS n`.execute(root)
  const socketPath = await startNginx(t, port)
  const read = async () => {
    const headers = { Authorization: `Bearer ${key}`, ...NDJSON }
    const [answer] = await once(request({ socketPath, path: '/v1/records?source=many', headers }).end(), 'response')
    let lines = 0
    answer.on('data', (part: Buffer) => {
      lines += part.toString('latin1').split('\n').length - 1
    })
    await once(answer, 'close').catch(() => {})
    return { isWhole: answer.statusCode === 200 && answer.complete, lines }
  }
  t.same(await read(), { isWhole: true, lines: 3000 })
  // The third page fails.
  await sql`ALTER TABLE sluice.records ENABLE ROW LEVEL SECURITY`.execute(root)
  await sql`CREATE POLICY broken ON sluice.records USING (CASE WHEN id = '1' THEN 1 / (n - n) = 1 ELSE true END)`.execute(
    root,
  )
  const { isWhole, lines } = await read()
  t.notOk(isWhole)
  t.ok(lines < 3000)
  await sql`ALTER TABLE sluice.records DISABLE ROW LEVEL SECURITY`.execute(root)
})

// The client took the problem for a part of the export.
t.test('what is not HTTP gets no response in the middle of another one', async (t) => {
  const records = (text: string) => text.split('{"specversion"').length - 1
  const all = records((await get('/v1/records', { accept: 'application/x-ndjson' })).text)
  const old = await openStalled(t, port, NDJSON)
  old.socket.write('\r\nabc\r\n\r\n')
  const { end, text } = await old.readAll()
  t.equal(end, 'end')
  t.equal(records(text), all)
  t.notMatch(text, 'HTTP/1.1 400')

  const stalled = await openStalled(t, port, NDJSON, '1.1')
  stalled.socket.write('abc\r\n\r\n')
  const [before = '', after] = (await stalled.readAll()).text.split('\r\n0\r\n\r\n')
  t.equal(records(before), all)
  t.match(after, /^HTTP\/1\.1 400 /)
})
