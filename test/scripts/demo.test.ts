import { execFile } from 'node:child_process'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { readDeliveries } from '../../scripts/demo/deliveries.ts'
import { createApp, type TestApp } from '../helpers/app.ts'

const deliveries = readDeliveries()
const distinct = new Set(deliveries.map(({ id }) => id)).size

t.test('the demo stores every delivery once, and a second run creates nothing', async (t) => {
  const server = await createApp(t)
  const url = await server.app.listen({ port: 0 })

  const first = await runDemo(url, server.key)
  t.equal(first.code, 0)
  t.strictSame(first.counts, { created: distinct, duplicate: deliveries.length - distinct, conflict: 0, rejected: 0 })
  t.equal(await countStored(server), distinct)

  const second = await runDemo(url, server.key)
  t.equal(second.code, 0)
  t.strictSame(second.counts, { created: 0, duplicate: deliveries.length, conflict: 0, rejected: 0 })
  t.equal(await countStored(server), distinct)
})

t.test('deliveries read back unchanged, under their repository and event', async (t) => {
  const server = await createApp(t)
  await runDemo(await server.app.listen({ port: 0 }), server.key)

  const source = 'https://github.com/Codertocat/Hello-World'
  const page = await server.get(`/v1/records?type=github.push&source=${encodeURIComponent(source)}&order=asc`)
  const sent = deliveries.filter((delivery) => delivery.type === 'github.push' && delivery.source === source)
  t.ok(sent.length > 0)
  t.same(
    new Map(page.json.records.map(({ id, data }: { id: string; data: unknown }) => [id, data])),
    new Map(sent.map(({ id, data }) => [id, data])),
  )
})

t.test('the command that the demo prints shows a record', async (t) => {
  const server = await createApp(t)
  const { output } = await runDemo(await server.app.listen({ port: 0 }), server.key)
  const [, command = ''] = /Look at one: (curl .*)/.exec(output) ?? []
  t.notMatch(output, server.key)
  const shown = await run('sh', ['-c', command], { SLUICE_KEY: server.key })
  t.equal(JSON.parse(shown.output).records[0].type, 'github.push')
})

t.test('a delivery that is not stored is reported, and the exit code is 1', async (t) => {
  const server = await createApp(t)
  const [delivery] = deliveries
  await server.post({ ...delivery, data: 'another content' })

  const { code, output, counts } = await runDemo(await server.app.listen({ port: 0 }), server.key)
  t.equal(code, 1)
  t.match(counts, { conflict: 1, rejected: 0 })
  t.match(
    output,
    /demo: 1 deliveries were not stored: A record with this source and id, but different content, is already stored/,
  )
})

t.test('a 503 and a broken connection are retried, and nothing is stored twice', async (t) => {
  const server = await createApp(t)
  const url = await breakFirstResponses(t, await server.app.listen({ port: 0 }))

  const { code, counts } = await runDemo(url, server.key)
  t.equal(code, 0)
  t.ok((counts.duplicate ?? 0) > deliveries.length - distinct, 'the records of the lost response are duplicates')
  t.equal(await countStored(server), distinct)
})

t.test('an unknown key and an unreachable server are reported in one sentence', async (t) => {
  const server = await createApp(t)
  const url = await server.app.listen({ port: 0 })
  t.match(await runDemo(url, 'sluice_unknown'), {
    code: 1,
    output: /^demo: The API key is not known\. It may be copied incorrectly.*$/m,
  })
  await server.app.close()
  t.match(await runDemo(url, server.key), {
    code: 1,
    output: /^demo: No server responds at .* Run npm start in another/m,
  })
})

interface Run {
  code: number
  /** stdout and stderr. */
  output: string
}

async function runDemo(url: string, key: string): Promise<Run & { counts: Record<string, number> }> {
  const ran = await run(process.execPath, ['scripts/demo.ts', '--url', url], { SLUICE_KEY: key })
  const lines = ran.output.matchAll(/^(created|duplicate|conflict|rejected) +([\d,]+)$/gm)
  return { ...ran, counts: Object.fromEntries([...lines].map(([, name, n]) => [name, Number(n?.replace(',', ''))])) }
}

function run(command: string, args: string[], env: Record<string, string>): Promise<Run> {
  return new Promise((resolve) => {
    const child = execFile(command, args, { env: { ...process.env, ...env } }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, output: stdout + stderr }),
    )
  })
}

async function countStored({ get }: TestApp): Promise<number> {
  const { json } = await get('/v1/records?limit=1000')
  return json.records.length
}

/** A proxy in front of a server. The first request gets 503; the second is stored, but its response is lost. */
async function breakFirstResponses(t: Test, url: string): Promise<string> {
  let requests = 0
  const proxy = createServer(async (request, response) => {
    const chunks = await request.toArray()
    const number = request.method === 'POST' ? ++requests : 0
    if (number === 1) {
      const problem = { detail: 'Too much is waiting to be written.', retryable: true }
      response.writeHead(503, { 'content-type': 'application/problem+json', 'retry-after': '0' })
      response.end(JSON.stringify(problem))
      return
    }
    const { authorization = '', 'content-type': type = '' } = request.headers
    const forwarded = await fetch(`${url}${request.url}`, {
      method: request.method ?? 'GET',
      headers: { authorization, 'content-type': type },
      ...(number > 0 ? { body: Buffer.concat(chunks) } : {}),
    })
    const body = await forwarded.text()
    if (number === 2) return response.destroy()
    response.writeHead(forwarded.status, { 'content-type': forwarded.headers.get('content-type') ?? '' }).end(body)
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  t.teardown(() => new Promise((resolve) => proxy.close(resolve)))
  return `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
}
