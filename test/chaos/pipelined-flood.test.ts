import { existsSync, readFileSync } from 'node:fs'
import { connect as open } from 'node:net'
import { sql } from 'kysely'
import t from 'tap'
import { issueKey } from '../../src/access/manage-keys.ts'
import { runServer } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { readMetrics } from '../helpers/scrape.ts'
import { skipUnless } from '../helpers/skipping.ts'
import { head } from '../helpers/socket.ts'
import { until, untilStable } from '../helpers/until.ts'

const MiB = 1024 * 1024
const CONNECTIONS = 500
/** Requests at a time on each connection: almost the limit. */
const PIPELINED = 30
const SENT = CONNECTIONS * PIPELINED
const QUEUE = 32 * MiB
const { scripts } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
const FLAGS: string[] = scripts.start.match(/--\S+-size=\d+/g)
const options = { skip: skipUnless(existsSync('/proc/self/status'), 'needs Linux') }

// Each request has a body of 25 bytes and takes 9 KB of memory. The queue counted only the bodies, and the process ran out of
// heap.
t.test(
  'tiny requests in an outage wait if the queue has memory for them, and the rest gets 503',
  options,
  async (t) => {
    const database = await createDatabase(t)
    const root = connect(Object.assign(new URL(database.superUrl), { pathname: '/postgres' }).href)
    t.teardown(() => root.destroy())
    const owner = connect(database.ownerUrl)
    const { token } = await issueKey(owner as never, {
      name: 'flood',
      scopes: ['ingest'],
      sourcePrefixes: [],
      expiresAt: null,
    }).finally(() => owner.destroy())
    const settings = {
      QUEUE_MAX_BYTES: String(QUEUE),
      OUTAGE_HOLD_SECONDS: '3600',
      SHED_INGEST_SECONDS: '60',
      SHED_READ_SECONDS: '60',
    }
    const server = await runServer(t, { DATABASE_URL: database.apiUrl, ...settings }, { flags: FLAGS })
    const { msg } = await server.log(({ msg }) => String(msg).startsWith('Metrics at '))
    const readMemory = () => {
      const status = readFileSync(`/proc/${server.child.pid}/status`, 'latin1')
      return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024
    }
    let waiting = 0
    let peak = 0
    const sample = async () => {
      const { value } = readMetrics(await (await fetch(String(msg).replace('Metrics at ', ''))).text())
      waiting = value('sluice_waiting_requests') as number
      peak = Math.max(peak, readMemory())
    }
    const body = '{"source":"a","type":"b"}'
    const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' }
    const request = head('POST', '/v1/records', { ...headers, 'Content-Length': String(body.length) }) + body
    t.equal((await fetch(`${server.url}/v1/records`, { method: 'POST', headers, body })).status, 201)
    await sql`ALTER DATABASE ${sql.id(database.name)} ALLOW_CONNECTIONS false`.execute(root)
    await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ${database.name}`.execute(root)
    await sample()
    const before = peak

    const counts = new Map<string, number>()
    let responses = 0
    const written: Promise<void>[] = []
    for (let n = 0; n < CONNECTIONS; n++) {
      const socket = open(Number(new URL(server.url).port), '127.0.0.1')
      t.teardown(() => socket.destroy())
      let received = ''
      socket.on('data', (bytes) => {
        received += bytes
        // Complete responses: a head, and as many bytes as its content-length says.
        for (let end = received.indexOf('\r\n\r\n'); end !== -1; end = received.indexOf('\r\n\r\n')) {
          const after = end + 4 + Number(/content-length: (\d+)/i.exec(received)?.[1])
          if (received.length < after) break
          const code = /"code":"(\w+)"/.exec(received.slice(0, after))?.[1]
          const response = `${received.slice(9, 12)} ${code}`
          counts.set(response, (counts.get(response) ?? 0) + 1)
          responses++
          received = received.slice(after)
        }
      })
      written.push(new Promise((resolve) => socket.write(request.repeat(PIPELINED), () => resolve())))
    }
    await Promise.all(written)
    await until('the first request to wait', async () => {
      await sample()
      return waiting > 0
    })
    // On a busy machine, requests that it has not read yet would wait or be refused later.
    await until('the server to read everything', () => unreadBytes(Number(new URL(server.url).port)) === 0)
    await untilStable(() => waiting, sample, 20)
    t.comment(`${waiting} of ${SENT} wait; ${Math.round(before / MiB)} MiB before, ${Math.round(peak / MiB)} at most`)
    // One key can have half of the queue.
    t.ok(waiting > 1000 && waiting < QUEUE / 2 / 10_000, `${waiting} wait`)
    t.ok(peak - before < 160 * MiB, `grew by ${peak - before} bytes`)

    await sql`ALTER DATABASE ${sql.id(database.name)} ALLOW_CONNECTIONS true`.execute(root)
    await until('all responses', () => responses >= SENT)
    t.comment(JSON.stringify([...counts]))
    t.same([...counts.keys()].sort(), ['201 undefined', '503 overloaded'])
    t.equal(counts.get('201 undefined'), waiting)
  },
)

/** The bytes that are on their way to this port, or that its process has not read: see proc_net_tcp.rst of Linux. */
function unreadBytes(port: number): number {
  const address = new RegExp(`:${port.toString(16).toUpperCase().padStart(4, '0')}$`)
  let bytes = 0
  for (const line of readFileSync('/proc/net/tcp', 'latin1').split('\n').slice(1, -1)) {
    const [, local = '', remote = '', , queues = ''] = line.trim().split(/\s+/)
    const [sending = 0, receiving = 0] = queues.split(':').map((hex) => Number.parseInt(hex, 16))
    if (address.test(local)) bytes += receiving
    if (address.test(remote)) bytes += sending
  }
  return bytes
}
