import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { createGzip } from 'node:zlib'
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
/** A server that buffered a body or an export would have to hold all of this. */
const BODY = 128 * MiB
const LINES_IN_CHUNK = 16
/** Random, so that a compressed body is not refused as a bomb. */
const DATA = Array.from({ length: 8 }, () => randomBytes(8 * 1024 - 30).toString('hex'))
/** The most memory that the server may take, whatever is sent to it. */
const MOST = 256 * MiB
/** The most memory that a body or an export may add. */
const GROWTH = 100 * MiB
// The flags of npm start and of the image. Without them, V8 lets garbage grow, and the test would measure that.
const { scripts } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
const FLAGS: string[] = scripts.start.match(/--\S+-size=\d+/g)

t.test('memory stays bounded while 128 MiB of lines arrive, plain and gzipped, and are read', options, async (t) => {
  const database = await createDatabase(t)
  const owner = connect(database.ownerUrl)
  const { token } = await issueKey(owner as never, {
    name: 'memory',
    scopes: ['ingest', 'read'],
    sourcePrefixes: [],
    expiresAt: null,
  }).finally(() => owner.destroy())
  const { url, child, log } = await runServer(t, { DATABASE_URL: database.apiUrl }, { flags: FLAGS })
  await log(({ msg }) => msg === 'ready')
  const client = openClient(t, Number(new URL(url).port), token)

  let peak = 0
  const measure = () => {
    const kilobytes = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'latin1'))?.[1]
    peak = Math.max(peak, Number(kilobytes) * 1024)
    return peak
  }
  /** Yields chunks of lines, and measures the server before each. */
  function* lines(source: string) {
    for (let [n, bytes] = [0, 0]; bytes < BODY; n++) {
      measure()
      let chunk = ''
      for (let at = 0; at < LINES_IN_CHUNK; at++) {
        chunk += `{"source":"${source}","type":"t","id":"${n * LINES_IN_CHUNK + at}","data":"${DATA[at % DATA.length]}"}\n`
      }
      bytes += chunk.length
      yield Buffer.from(chunk)
    }
  }
  /** Reads a response to its end, and measures the server at each piece. @returns the number of bytes */
  async function drain(answer: IncomingMessage): Promise<number> {
    let bytes = 0
    for await (const piece of answer) {
      measure()
      bytes += (piece as Buffer).length
    }
    t.ok(answer.complete)
    return bytes
  }

  await client.send('GET', '/v1/records')
  const before = measure()
  const checkMemory = (name: string) => {
    t.comment(`${name}: ${Math.round(before / MiB)} MiB before, ${Math.round(peak / MiB)} MiB at most`)
    t.ok(peak < MOST, `${name}: ${peak} bytes`)
    t.ok(peak - before < GROWTH, `${name}: grew by ${peak - before} bytes`)
  }

  const headers = { 'content-type': 'application/x-ndjson' }
  const sent = await client.send('POST', '/v1/records', headers, lines('plain'))
  t.equal(sent.status, 201)
  t.ok(sent.json.counts.created >= 8000)
  checkMemory('NDJSON received')

  const again = createGzip({ level: 1 })
  const packed = client.send('POST', '/v1/records', { ...headers, 'content-encoding': 'gzip' }, again)
  for (const chunk of lines('plain'))
    if (!again.write(chunk)) await new Promise((resolve) => again.once('drain', resolve))
  again.end()
  const duplicates = await packed
  t.equal(duplicates.status, 200)
  t.same(duplicates.json.counts.duplicate, sent.json.counts.created)
  checkMemory('NDJSON received again, compressed')

  t.ok((await drain(await client.read('/v1/records', { accept: 'application/x-ndjson' }))) > BODY)
  checkMemory('NDJSON exported')
})
