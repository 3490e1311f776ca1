import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { issueKey } from '../../src/access/manage-keys.ts'
import { type Command, runServer } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { missing } from '../helpers/skipping.ts'
import { until } from '../helpers/until.ts'

const SYSLOG_NG = '/usr/sbin/syslog-ng'

t.test(
  'a stock collector that parses JSON gets every line of a pod with its fields',
  { skip: missing(SYSLOG_NG) },
  async (t) => {
    const server = await runWholeLife(t)
    const lines = server.logs()
    const collected = await collect(t, criFile(server), lines.length)
    t.equal(collected.length, lines.length)
    for (const [index, line] of lines.entries()) {
      t.strictSame(asText(collected[index]), asText(line), `${line.msg}`.slice(0, 40))
    }
  },
)

// — helpers —

/** Runs a server from its start, through requests of all kinds, a warning and a change of the log level, to a crash. */
async function runWholeLife(t: Test): Promise<Command> {
  const { ownerUrl, apiUrl } = await createDatabase(t)
  const db = connect(ownerUrl)
  const request = { name: 'test', scopes: ['ingest', 'read'] as const, sourcePrefixes: [], expiresAt: null }
  const { token } = await issueKey(db, request).finally(() => db.destroy())
  const code = `process.emitWarning('a warning'); console.error('\u2603 snow', { on: 'two\\nlines' }); throw new Error('the end')`
  const flags = ['--import', `data:text/javascript,${encodeURIComponent(`process.on('SIGHUP', () => { ${code} })`)}`]
  const server = await runServer(t, { DATABASE_URL: apiUrl }, { flags })
  const send = (body: string, headers = {}) =>
    fetch(`${server.url}/v1/records`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
      body,
    })
  t.equal(
    (await send('{"source":"shop","type":"t"}', { traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01` })).status,
    201,
  )
  t.equal((await send('[{"source":"shop","type":"t"},5]', { 'x-request-id': `quotes-"and'\\` })).status, 207)
  t.equal((await send('{')).status, 400)
  t.equal((await fetch(`${server.url}/nowhere`)).status, 404)
  server.child.kill('SIGUSR2')
  await server.log(({ msg }) => /log level/.test(String(msg)))
  await fetch(`${server.url}/healthz`)
  server.child.kill('SIGHUP')
  t.equal(await server.exit, 1)
  t.equal(server.stderr(), '')
  return server
}

/**
 * The log file of a container runtime (Kubernetes, CRI logging format). Each line has its time, its stream and F. A long line is
 * split into parts, and all but the last have P. A runtime splits at 16 KiB, even within a character; here it is 100 bytes.
 */
function criFile({ stdout }: Command): Buffer {
  const out: Buffer[] = []
  for (const line of stdout().trimEnd().split('\n')) {
    const bytes = Buffer.from(line)
    for (let at = 0; at < bytes.length; at += 100) {
      const tag = at + 100 < bytes.length ? 'P' : 'F'
      out.push(
        Buffer.from(`2026-01-02T03:04:05.678901234Z stdout ${tag} `),
        bytes.subarray(at, at + 100),
        Buffer.from('\n'),
      )
    }
  }
  return Buffer.concat(out)
}

/** What syslog-ng reads from such a file: it removes the format of the runtime and parses the rest as JSON. */
async function collect(t: Test, file: Buffer, count: number): Promise<Record<string, unknown>[]> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-collector-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'pod.log'), file)
  await writeFile(
    join(folder, 'conf'),
    `@version: 3.35
    log {
      source { file("${folder}/pod.log" flags(no-parse) read-old-records(yes) log-msg-size(1048576)); };
      parser { csv-parser(columns("cri.time", "cri.stream", "cri.tag", "cri.text") delimiters(chars(" ")) flags(greedy)); };
      parser { grouping-by(key("\${cri.stream}") trigger("\${cri.tag}" eq "F") timeout(60)
                 aggregate(value("MESSAGE" "$(implode '' $(context-values \${cri.text}))") tags("whole"))); };
      filter { tags("whole"); };
      parser { json-parser(prefix(".json.")); };
      destination { file("${folder}/out" template("$(format-json --scope none --key .json.* --shift-levels 2)\\n")); };
    };`,
  )
  const own = ['--cfgfile=conf', '--pidfile=pid', '--control=control', '--persist-file=persist'].map((option) =>
    option.replace('=', `=${folder}/`),
  )
  const child = spawn(SYSLOG_NG, ['--foreground', '--no-caps', ...own], { stdio: 'inherit' })
  t.teardown(async () => {
    if (child.exitCode === null && child.kill()) await once(child, 'exit')
  })
  const read = async () => (await readFile(join(folder, 'out'), 'utf8').catch(() => '')).split('\n').slice(0, -1)
  const lines = await until('the collector', async () => {
    const lines = await read()
    return lines.length >= count && lines
  })
  return lines.map((line) => JSON.parse(line))
}

/** The collector turns numbers into text with six decimals, and null into empty text. */
function asText(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) {
    return Number.isNaN(Number(value)) ? String(value) : Number(value).toFixed(3)
  }
  const entries = Object.entries(value).filter(([, each]) => each !== null && each !== '')
  return Object.fromEntries(entries.map(([name, each]) => [name, asText(each)] as const).sort())
}
