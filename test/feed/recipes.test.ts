import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { zstdDecompressSync } from 'node:zlib'
import t, { type Test } from 'tap'
import type { TestApp } from '../helpers/app.ts'
import { load, order, start, stored } from '../helpers/load.ts'
import { forward, sendProblem, startStub } from '../helpers/proxy.ts'
import { missing, pathOf } from '../helpers/skipping.ts'
import { until } from '../helpers/until.ts'

// The recipe for another PostgreSQL is a script: test/scripts/feed-to-postgres.test.ts.
const manual = await readFile(new URL('../../src/feed/recipes.md', import.meta.url), 'utf8')
const [copy = '', archive = '', sink = ''] = [...manual.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block]) => block)

t.test('the command for another PostgreSQL exists, with these options', async (t) => {
  const [, script = '', args = ''] = /^npm run -s (\S+) -- (.*)$/m.exec(copy) ?? []
  const { scripts } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8'))
  const command = scripts[script].replace(/^node /, `'${process.execPath}' `)
  const env = {
    ...process.env,
    SLUICE_KEY: 'k',
    SLUICE_URL: 'http://127.0.0.1:1',
    TARGET_DATABASE_URL: 'postgres://h/d',
  }
  const child = spawn('sh', ['-c', `${command} ${args}`], { env })
  t.match(await text(child.stderr), 'feed-to-postgres: No server responds at http://127.0.0.1:1')
})

// — files —

const skip = missing('curl') || missing('zstd') || missing('flock')

t.test('each record is in one file of the archive, in order, wherever a run is killed', { skip }, async (t) => {
  const server = await start(t)
  const folder = await folderWithKey(t, server.key)
  const programs = ['curl', 'grep', 'zstd', 'sync', 'mv']
  const path = await standIns(folder, programs)
  let posted = 0
  const post = () => server.post(`[${[1, 2].map(() => order(++posted)).join(',')}]`)
  for (const kill of programs.flatMap((program) => [`before ${program}`, `after ${program}`])) {
    await post()
    const { code } = await end(paste(archive, { url: server.url, folder, env: { PATH: path, KILL: kill } }))
    t.equal(code, 'SIGKILL', kill)
    const found = await archived(folder)
    t.same(found, idsTo(found.length), kill)
  }
  for (const runs of [1, 2]) {
    t.equal((await end(paste(archive, { url: server.url, folder }))).code, 0)
    t.same(await archived(folder), idsTo(posted))
    if (runs === 1) await post()
  }
  const files = await readdir(join(folder, 'archive'))
  const last = await end(paste(archive, { url: server.url, folder }))
  t.same([last.code, await readdir(join(folder, 'archive'))], [0, files], 'without new records, there is no new file')

  const other = await start(t)
  const { counts } = await load(
    t,
    other,
    files.map((file) => join(folder, 'archive', file)),
  )
  t.equal(counts.created, posted, 'sluice load stores them in another Sluice')
})

t.test('a response that breaks off unnoticed does not lose the rest', { skip }, async (t) => {
  const server = await start(t)
  await server.post(`[${[1, 2, 3].map((n) => order(n)).join(',')}]`)
  const { text: lines } = await server.get('/v1/feed', { accept: 'application/x-ndjson' })
  const folder = await folderWithKey(t, server.key)
  const end2 = lines.indexOf('\n', lines.indexOf('\n') + 1) + 1
  for (const [length, code, count] of [
    [end2 + 20, 1, 0],
    [end2, 0, 2],
  ] as const) {
    // Like a proxy that speaks HTTP/1.0.
    const url = await startStub(t, (_request, response: ServerResponse) =>
      response.socket?.end(`HTTP/1.0 200 OK\r\n\r\n${lines.slice(0, length)}`),
    )
    t.equal((await end(paste(archive, { url, folder }))).code, code)
    t.same(await archived(folder), idsTo(count))
  }
  await end(paste(archive, { url: server.url, folder }))
  t.same(await archived(folder), idsTo(3))
})

t.test('a refusal ends the run, and its reason is on stderr', { skip }, async (t) => {
  const server = await start(t)
  const folder = await folderWithKey(t, 'sluice_unknown')
  t.match(await end(paste(archive, { url: server.url, folder })), { code: 1, stderr: 'The API key is not known.' })
})

// — an HTTP server —

t.test(
  'another Sluice has each record once, in order, although responses and the loop are lost',
  { skip },
  async (t) => {
    const [server, other] = [await start(t), await start(t)]
    const folder = await folderWithKey(t, server.key)
    const path = await standIns(folder, ['mv'])
    let requests = 0
    const to = await startStub(t, async (request, response, body) => {
      requests++
      if (requests === 1) return sendProblem(response, 503, { detail: 'Away.', retryable: true })
      // Not an error for curl.
      if (requests === 2) return response.writeHead(301, { location: '/' }).end()
      const respond = await forward(other.url, request, body)
      if (requests === 3) return response.destroy()
      respond(response)
    })
    const env = { PATH: path, OTHER_KEY: other.key }
    const begin = (kill: string) => paste(sink, { url: server.url, folder, to, env: { ...env, KILL: kill } })
    const first = begin('before mv')
    await server.post(`[${order(1, { data: { n: 1, bytes: null } })},${order(2, { subject: 'é', level: 3 })}]`)
    await server.post({ source: 'shop', type: 't', id: '3', data_base64: 'AAH/' })
    t.equal((await end(first)).code, 'SIGKILL')
    t.ok(requests >= 4, 'refused, redirected, lost, and accepted')
    const second = begin('')
    await server.post(order(4))
    await until('the last record', async () => (await stored(other)).length === 4)
    await stop(second)
    t.same(await eventsOf(other), await eventsOf(server))
  },
)

t.test('a page with a record that the other Sluice rejects is not skipped', { skip }, async (t) => {
  const [server, other] = [await start(t), await start(t)]
  await other.post(order(1, { data: 'another content' }))
  await server.post(`[${order(1)},${order(2)}]`)
  const folder = await folderWithKey(t, server.key)
  const child = paste(sink, { url: server.url, folder, to: other.url, env: { OTHER_KEY: other.key } })
  let stderr = ''
  child.stderr?.on('data', (chunk) => (stderr += chunk))
  await until('the second refusal', () => stderr.split('conflict').length > 2)
  await stop(child)
  t.equal((await stored(other)).length, 1)
  t.notOk((await readdir(folder)).includes('offset'))
})

// — helpers —

/** A folder with the key, as `npm start` writes it. */
async function folderWithKey(t: Test, key: string): Promise<string> {
  const folder = t.testdir()
  await mkdir(join(folder, '.sluice'))
  await writeFile(join(folder, '.sluice/key'), `${key}\n`)
  return folder
}

/** Runs a block of the manual, as a script. */
function paste(
  block: string,
  { url, to = '', folder, env = {} }: { url: string; to?: string; folder: string; env?: Record<string, string> },
): ChildProcess {
  const script = block.replaceAll('http://127.0.0.1:3000', url).replaceAll('https://other.example', to)
  return spawn('bash', ['-c', script], { cwd: folder, env: { ...process.env, ...env }, detached: true })
}

async function end(child: ChildProcess): Promise<{ code: number | string; stderr: string }> {
  let stderr = ''
  child.stderr?.on('data', (chunk) => (stderr += chunk))
  const [code, signal] = await once(child, 'close')
  return { code: code ?? signal, stderr }
}

/** Stops the process and its children. */
async function stop(child: ChildProcess): Promise<void> {
  const closed = once(child, 'close')
  process.kill(-(child.pid as number), 'SIGKILL')
  await closed
}

/** Programs that kill the shell which calls them, before or after their work, if KILL says so. @returns a PATH that begins with them */
async function standIns(folder: string, programs: string[]): Promise<string> {
  const bin = join(folder, 'bin')
  await mkdir(bin)
  for (const program of programs) {
    const kill = (when: string) => `[ "$KILL" = '${when} ${program}' ] && kill -9 $PPID && exit\n`
    const body = `#!/bin/sh\n${kill('before')}${pathOf(program as 'curl')} "$@"\ncode=$?\n${kill('after')}exit $code\n`
    await writeFile(join(bin, program), body)
    await chmod(join(bin, program), 0o755)
  }
  return `${bin}:${process.env.PATH}`
}

/** The ids in all files of the archive, in the order of their names. */
async function archived(folder: string): Promise<string[]> {
  const files = (await readdir(join(folder, 'archive')).catch(() => [])).sort()
  const texts = await Promise.all(
    files.map(async (file) => zstdDecompressSync(await readFile(join(folder, 'archive', file))).toString()),
  )
  return [...texts.join('').matchAll(/^.*"id":"(\d+)".*$/gm)].map(([, id]) => id as string)
}

const idsTo = (count: number) => Array.from({ length: count }, (_, at) => String(at + 1))

/** All records in the order of the feed, without what each server adds. */
const eventsOf = async ({ get }: TestApp): Promise<string> =>
  (await get('/v1/feed', { accept: 'application/cloudevents-batch+json' })).text
