import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { createApp } from '../helpers/app.ts'
import { missing } from '../helpers/skipping.ts'
import { until } from '../helpers/until.ts'

const manual = await readFile(new URL('../../src/feed/README.md', import.meta.url), 'utf8')
const blocksOf = (language: string) =>
  [...manual.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms'))].map(([, text = '']) => text)
const [request = '', shell = '', creation = ''] = blocksOf('sh')
const [script = ''] = blocksOf('ts')

const { app, key, get, post } = await createApp(t)
const url = await app.listen({ port: 0 })
const adapted = (text: string) => text.replaceAll('http://127.0.0.1:3000', url)

let posted = 0
const postNext = () => post({ source: 'shop', type: 't', id: String(++posted) })
await postNext()

async function head(): Promise<unknown> {
  const { headers } = await app.inject({ method: 'HEAD', url: '/v1/feed', headers: { authorization: `Bearer ${key}` } })
  return headers['stream-next-offset']
}

/** A folder with the key, as `npm start` writes it. */
async function folderWithKey(t: Test): Promise<string> {
  const folder = t.testdir()
  await mkdir(join(folder, '.sluice'))
  await writeFile(join(folder, '.sluice/key'), `${key}\n`)
  return folder
}

t.test('its request returns records and the offset to continue from', { skip: missing('curl') }, async (t) => {
  const child = spawn('bash', ['-c', adapted(request)], { cwd: await folderWithKey(t) })
  let text = ''
  child.stdout.on('data', (chunk) => (text += chunk))
  await once(child, 'close')
  t.match(text, /^stream-next-offset: 1[\da-f]{48}\r$/m)
  t.match(text, /"source":"shop","id":"1"/)
})

t.test('its request creates a consumer', { skip: missing('curl') }, async (t) => {
  const child = spawn('bash', ['-c', adapted(creation)], { cwd: await folderWithKey(t) })
  let text = ''
  child.stdout.on('data', (chunk) => (text += chunk))
  await once(child, 'close')
  t.match(text, /^HTTP\/1\.1 201 /)
  t.match((await get('/v1/consumers/billing')).json, { name: 'billing', lag: { isExact: true } })
})

for (const { name, skip, begin, idsIn, offsetIn } of [
  {
    name: 'the consumer in a shell',
    skip: missing('curl'),
    begin: (cwd: string) => spawn('bash', ['-c', adapted(shell)], { cwd, detached: true }),
    idsIn: (text: string) => [...text.matchAll(/"id":"(\d+)"/g)].map(([, id]) => id),
    offsetIn: (folder: string) => readFile(join(folder, 'offset'), 'utf8').catch(() => ''),
  },
  {
    name: 'the consumer in TypeScript',
    skip: false,
    begin: (cwd: string) => spawn(process.execPath, [join(cwd, 'consumer.mts')], { cwd, detached: true }),
    idsIn: (text: string) => [...text.matchAll(/^shop (\d+)$/gm)].map(([, id]) => id),
    offsetIn: async () => (await get('/v1/consumers/printer')).json.offset ?? '',
  },
]) {
  t.test(`${name} continues where it was stopped, and gets each record once`, { skip }, async (t) => {
    const folder = await folderWithKey(t)
    await writeFile(join(folder, 'consumer.mts'), adapted(script))
    let text = ''
    const start = () => {
      const child = begin(folder)
      child.stdout.on('data', (chunk) => (text += chunk))
      return child
    }
    // It writes its offset after the records.
    const untilDone = () =>
      until(`record ${posted} and its offset`, async () => {
        const offset: string = await offsetIn(folder)
        return offset.trim() === (await head()) && idsIn(text).includes(String(posted))
      })
    const first = start()
    await untilDone()
    await postNext()
    await untilDone()
    await stop(first)
    await postNext()
    const second = start()
    await untilDone()
    await stop(second)
    t.same(
      idsIn(text),
      Array.from({ length: posted }, (_, index) => String(index + 1)),
    )
  })
}

/** Stops the process and its children. */
async function stop(child: ChildProcess): Promise<void> {
  const closed = once(child, 'close')
  process.kill(-(child.pid as number), 'SIGKILL')
  await closed
}
