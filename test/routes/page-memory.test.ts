import { existsSync, readFileSync } from 'node:fs'
import t from 'tap'
import { issueKey } from '../../src/access/manage-keys.ts'
import { runServer } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { openClient } from '../helpers/http.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { skipUnless } from '../helpers/skipping.ts'

// The server runs in its own process, because only a whole process can be measured. Only Linux has /proc.
const options = { skip: skipUnless(existsSync('/proc/self/status'), 'needs Linux') }

const MiB = 1024 * 1024
const RECORDS = 16
const RECORD = MiB - 2048
const REQUESTS = 60
/** The most memory to add: the budget of 64 MiB, and garbage. It was 280 MiB when a page was reserved after it was made. */
const GROWTH = 240 * MiB
// The flags of npm start and of the image. Without them, V8 lets garbage grow, and the test would measure that.
const { scripts } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
const FLAGS: string[] = scripts.start.match(/--\S+-size=\d+/g)

t.test(
  '60 requests for the largest pages at once: memory stays bounded, and another key gets its page',
  options,
  async (t) => {
    const database = await createDatabase(t)
    const owner = connect(database.ownerUrl)
    const request = { name: 'pages', scopes: ['ingest', 'read'] as never, sourcePrefixes: [], expiresAt: null }
    const tokens: string[] = []
    for (let at = 0; at < 3; at++) tokens.push((await issueKey(owner as never, request)).token)
    await owner.destroy()
    const { url, child } = await runServer(t, { DATABASE_URL: database.apiUrl }, { flags: FLAGS })
    const clientOf = (at: number) => openClient(t, Number(new URL(url).port), tokens[at] as string)
    const later = clientOf(2)
    for (let id = 0; id < RECORDS; id++) {
      // One character outside of Latin-1 makes V8 use two bytes for every character.
      const record = JSON.stringify({ source: 's', type: 't', id: String(id), data: `\u{20ac}${'x'.repeat(RECORD)}` })
      t.equal((await later.send('POST', '/v1/records', { 'content-type': 'application/json' }, record)).status, 201)
    }
    const measure = () =>
      Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'latin1'))?.[1]) * 1024
    const before = measure()
    let peak = before
    const timer = setInterval(() => {
      peak = Math.max(peak, measure())
    }, 10)

    // Nobody reads these pages.
    const answers = await Promise.all(
      Array.from({ length: REQUESTS }, (_, at) => clientOf(at % 2).read('/v1/records?limit=1000')),
    )
    const pages = answers.filter(({ statusCode }) => statusCode === 200)
    t.ok(pages.length > 0 && pages.length < 5, `${pages.length} pages`)
    for (const answer of answers) {
      if (answer.statusCode === 200) continue
      t.equal(answer.headers['retry-after'], '1')
      const json = JSON.parse(Buffer.concat(await answer.toArray()).toString())
      t.match({ ...json, status: answer.statusCode }, { status: 503, code: 'overloaded', retryable: true })
    }
    const page = await later.send('GET', '/v1/records?limit=1000')
    t.equal(page.status, 200)
    t.equal(page.json.records.length, RECORDS)

    clearInterval(timer)
    for (const answer of pages) answer.on('error', () => {}).destroy()
    t.comment(`${Math.round(before / MiB)} MiB before, ${Math.round(peak / MiB)} MiB at most, ${pages.length} pages`)
    t.ok(peak - before < GROWTH, `grew by ${peak - before} bytes`)
  },
)
