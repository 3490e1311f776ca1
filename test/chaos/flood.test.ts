import { existsSync, readFileSync } from 'node:fs'
import { sql } from 'kysely'
import t from 'tap'
import { issueKey } from '../../src/access/manage-keys.ts'
import { runServer } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { skipUnless } from '../helpers/skipping.ts'

const MiB = 1024 * 1024
const BODY = MiB / 4
const QUEUE = 16 * MiB
/** The memory that a request takes in addition to its body: see src/ingest/memory.ts. */
const FIXED = 11.5 * 1024
/** The number of requests that one key may have in the queue: half of the queue. */
const WAITING = Math.floor(QUEUE / 2 / (BODY + FIXED))
const MORE = 16
/** Twelve times what the queue has room for. */
const SENT = 800
// The heap limits of `npm start` and of the image. By default, V8 lets garbage grow, and the test would measure that.
const { scripts } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
const FLAGS: string[] = scripts.start.match(/--\S+-size=\d+/g)
const options = { skip: skipUnless(existsSync('/proc/self/status'), 'needs Linux') }

t.test(
  'requests in an outage wait if they fit into the queue; the rest gets 503, and memory stays flat',
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
    const settings = { QUEUE_MAX_BYTES: String(QUEUE), OUTAGE_HOLD_SECONDS: '3600' }
    const { url, child, log } = await runServer(t, { DATABASE_URL: database.apiUrl, ...settings }, { flags: FLAGS })
    await log(({ msg }) => msg === 'ready')
    const readMemory = () => {
      const status = readFileSync(`/proc/${child.pid}/status`, 'latin1')
      return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024
    }
    let sent = 0
    const send = async () => {
      const record = JSON.stringify({ source: 'flood', type: 't', id: String(sent++), data: '' })
      const body = `${record.slice(0, -2)}${'x'.repeat(BODY - record.length)}"}`
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
      const response = await fetch(`${url}/v1/records`, { method: 'POST', headers, body })
      return { status: response.status, retryAfter: response.headers.get('retry-after'), body: await response.text() }
    }

    t.equal((await send()).status, 201)
    await sql`ALTER DATABASE ${sql.id(database.name)} ALLOW_CONNECTIONS false`.execute(root)
    await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ${database.name}`.execute(root)

    // A few more than fit. When these are refused, the queue is full.
    const waiting = new Set<Promise<{ status: number }>>()
    for (let number = 0; number < WAITING + MORE; number++) {
      const request = send().finally(() => waiting.delete(request))
      waiting.add(request)
    }
    while (waiting.size > WAITING) await Promise.race(waiting)
    const before = readMemory()

    let peak = before
    const refused = new Set<string>()
    await Promise.all(
      Array.from({ length: 16 }, async () => {
        while (sent < SENT) {
          const { status, retryAfter, body } = await send()
          const { code, outcome, retryable } = JSON.parse(body)
          refused.add(JSON.stringify({ status, retryAfter, code, outcome, retryable }))
          peak = Math.max(peak, readMemory())
        }
      }),
    )
    t.same(
      [...refused].map((text) => JSON.parse(text)),
      [{ status: 503, retryAfter: '1', code: 'overloaded', outcome: 'not_written', retryable: true }],
    )
    t.equal(waiting.size, WAITING, 'all waiting requests still wait')
    t.comment(`${Math.round(before / MiB)} MiB before, ${Math.round(peak / MiB)} MiB at most`)
    t.ok(peak - before < 64 * MiB, `grew by ${peak - before} bytes while ${(SENT - WAITING) * BODY} bytes arrived`)

    await sql`ALTER DATABASE ${sql.id(database.name)} ALLOW_CONNECTIONS true`.execute(root)
    t.same(new Set((await Promise.all(waiting)).map(({ status }) => status)), new Set([201]))
  },
)
