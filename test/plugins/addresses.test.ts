import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { networkInterfaces } from 'node:os'
import t, { type Test } from 'tap'
import { createApp } from '../helpers/app.ts'
import { skipUnless } from '../helpers/skipping.ts'
import { head } from '../helpers/socket.ts'
import { until } from '../helpers/until.ts'

const hasIPv6 = networkInterfaces().lo?.some(({ address }) => address === '::1') ?? false
const skip = skipUnless(hasIPv6, 'this machine has no address ::1')
/** For documentation only (RFC 3849). */
const ABSENT = '2001:db8::1'
const BOTH = ['127.0.0.1', '::1']

/** Opens a connection. `received` has what the server has sent so far. */
async function dial(t: Test, port: number, host: string) {
  const socket: Socket = connect({ port, host }).on('error', () => {})
  t.teardown(() => socket.destroy())
  const peer = { socket, received: '' }
  socket.setEncoding('latin1').on('data', (text) => {
    peer.received += text
  })
  await once(socket, 'connect')
  return peer
}

// The second address had none of the rules that plugins add to the server.
t.test('both addresses of localhost follow the same rules', { skip }, async (t) => {
  const { app, key, logs } = await createApp(t)
  const { maxConnections } = app.server
  await app.listenOnAll(BOTH, 0)
  if (maxConnections) t.equal(app.server.maxConnections, Math.floor(maxConnections / 2), 'the limit is shared')
  await app.metricsServer.listenOnAll(BOTH, 0)
  const { port } = app.server.address() as AddressInfo
  const metricsPort = (app.metricsServer.server.address() as AddressInfo).port
  const post = head('POST', '/v1/records', {
    Authorization: `Bearer ${key}`,
    'Content-Type': 'application/json',
    'Transfer-Encoding': 'chunked',
  })
  for (const host of BOTH) {
    for (const [name, request, response] of [
      [
        'CONNECT',
        'CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n',
        /^HTTP\/1\.1 501 [\s\S]*"code":"not_implemented"/,
      ],
      ['an unknown expectation', head('GET', '/healthz', { Expect: 'foo' }), /^HTTP\/1\.1 417 [\s\S]*"code":/],
      // Node.js would respond with 100 before the key is checked.
      [
        'Expect without a key',
        head('POST', '/v1/records', { Expect: '100-continue', 'Content-Length': '2' }),
        /^HTTP\/1\.1 401 /,
      ],
      [
        'an unknown method after a response',
        `${head('GET', '/healthz')}no HTTP/1.1\r\n\r\n`,
        /^HTTP\/1\.1 200 [\s\S]*HTTP\/1\.1 501 [\s\S]*"code":/,
      ],
      ['a broken chunk in a body', `${post}zz\r\n`, /^HTTP\/1\.1 400 [\s\S]*"instance":"\/v1\/records"/],
    ] as const) {
      const peer = await dial(t, port, host)
      peer.socket.write(request)
      await until(`${name} on ${host}: ${response}`, () => response.test(peer.received))
    }
    // The server closes after its response, but first reads what the client still sends.
    const peer = await dial(t, port, host)
    const closed = once(peer.socket, 'close')
    peer.socket.write(head('POST', '/v1/records', { Connection: 'close', 'Content-Length': '8000000' }))
    peer.socket.end(Buffer.alloc(8_000_000))
    t.same(await closed, [false], `no reset on ${host}`)
    t.match(peer.received, /^HTTP\/1\.1 401 /)

    const url = `http://${host === '::1' ? '[::1]' : host}:${metricsPort}/metrics`
    t.equal((await fetch(url)).status, 200)
    t.ok(logs.some(({ msg }) => msg === `Server listening at http://${host === '::1' ? '[::1]' : host}:${port}`))
  }
})

t.test('the server waits for a request to the second address before it closes', { skip }, async (t) => {
  const { app, key } = await createApp(t)
  await app.listenOnAll(BOTH, 0)
  const { port } = app.server.address() as AddressInfo
  const idle = await dial(t, port, '::1')
  idle.socket.write(head('GET', '/healthz'))
  await until('a response', () => idle.received.startsWith('HTTP/1.1 200'))
  const closed = once(idle.socket, 'close')
  const peer = await dial(t, port, '::1')
  const body = '{"source":"shop","type":"t"}'
  const headers = {
    Authorization: `Bearer ${key}`,
    'Content-Type': 'application/json',
    'Content-Length': `${body.length}`,
  }
  const arrived = once(app.server, 'request')
  peer.socket.write(head('POST', '/v1/records', headers) + body.slice(0, 5))
  await arrived
  const closing = app.close()
  await until('the server to refuse connections', () =>
    dial(t, port, '::1').then(
      () => false,
      () => true,
    ),
  )
  await closed
  const ended = once(peer.socket, 'close')
  peer.socket.write(body.slice(5))
  await Promise.all([closing, ended])
  t.match(peer.received, /^HTTP\/1\.1 201 /)
})

t.test('an address that this machine does not have is no error if it has another one', async (t) => {
  for (const hosts of [
    ['127.0.0.1', ABSENT],
    [ABSENT, '127.0.0.1'],
  ]) {
    const { app } = await createApp(t)
    const { maxConnections } = app.server
    await app.listenOnAll(hosts, 0)
    t.equal(app.server.maxConnections, maxConnections, 'no part of the limit is kept for an absent address')
    const { port } = app.server.address() as AddressInfo
    t.equal((await fetch(`http://127.0.0.1:${port}/healthz`)).status, 200)
  }
})

t.test(
  'an address that is in use is an error, and so is a list of addresses that this machine does not have',
  { skip },
  async (t) => {
    const other = createServer().listen(0, '::1')
    await once(other, 'listening')
    t.teardown(() => other.close())
    const { app } = await createApp(t)
    const { port } = other.address() as AddressInfo
    await t.rejects(app.listenOnAll(BOTH, port), { code: 'EADDRINUSE' })

    const { app: second } = await createApp(t)
    await t.rejects(second.listenOnAll([ABSENT, ABSENT], 0), { code: 'EADDRNOTAVAIL' })
    await second.metricsServer.listenOn('localhost', 0)
    const { port: metricsPort } = second.metricsServer.server.address() as AddressInfo
    t.equal((await fetch(`http://localhost:${metricsPort}/metrics`)).status, 200)
  },
)
