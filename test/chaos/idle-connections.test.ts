import { existsSync, readFileSync } from 'node:fs'
import { connect as open, type Socket } from 'node:net'
import t from 'tap'
import { issueKey } from '../../src/access/manage-keys.ts'
import { runServer } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { skipUnless } from '../helpers/skipping.ts'

const WANTED = 10_000
/** Connections that are opened at a time: fewer than the kernel's queue of connections that are not accepted yet. */
const AT_ONCE = 200
/** Open files that this process needs for other purposes. */
const SPARE = 200
const MiB = 1024 * 1024

// Node.js raises its limit to the hard limit. /proc has that limit, and the memory of the server.
const limits = existsSync('/proc/self/limits') ? readFileSync('/proc/self/limits', 'latin1') : ''
const openFiles = Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? 0)
const options = { skip: skipUnless(openFiles > 0, 'needs Linux') }

t.test('with ten thousand idle connections, requests are served, and memory is bounded', options, async (t) => {
  const count = Math.min(WANTED, openFiles - SPARE)
  if (count < WANTED) t.comment(`only ${count} connections: a process may open ${openFiles} files on this machine`)
  const database = await createDatabase(t)
  const owner = connect(database.ownerUrl)
  const { token } = await issueKey(owner as never, {
    name: 'idle',
    scopes: ['ingest', 'read'],
    sourcePrefixes: [],
    expiresAt: null,
  }).finally(() => owner.destroy())
  const { url, child, log } = await runServer(t, { DATABASE_URL: database.apiUrl, STALL_SECONDS: '60' })
  await log(({ msg }) => msg === 'ready')
  const readMemory = () => {
    const status = readFileSync(`/proc/${child.pid}/status`, 'latin1')
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024
  }
  const store = async (id: string) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
    const body = JSON.stringify({ source: 'idle', type: 't', id })
    return (await fetch(`${url}/v1/records`, { method: 'POST', headers, body })).status
  }

  t.equal(await store('before'), 201)
  const before = readMemory()
  const sockets: Socket[] = []
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
  })
  let lost = 0
  while (sockets.length < count) {
    await Promise.all(
      Array.from({ length: Math.min(AT_ONCE, count - sockets.length) }, async (_, n) => {
        const socket = open(Number(new URL(url).port), '127.0.0.1')
        sockets.push(socket)
        await new Promise((resolve, reject) => socket.on('connect', resolve).on('error', reject))
        socket.on('close', () => lost++)
        // Half of the connections have sent a request, and half have sent nothing.
        if (n % 2 === 0) return
        socket.write('GET /healthz HTTP/1.1\r\nHost: sluice\r\n\r\n')
        await new Promise((resolve) => socket.on('data', resolve))
      }),
    )
  }

  const grown = readMemory() - before
  t.comment(`${count} connections: ${Math.round(grown / MiB)} MiB`)
  t.ok(grown < count * 20 * 1024 + 32 * MiB, `grew by ${grown} bytes`)
  for (let request = 0; request < 20; request++) t.equal(await store(String(request)), 201)
  t.equal(lost, 0)
})
