import { Agent, request as open } from 'node:http'
import type { Test } from 'tap'
import { createApp } from './app.ts'
import { listen } from './socket.ts'
import { watchEventLoop } from './turns.ts'
import { manyKeys, type WorstBody } from './worst-bodies.ts'

/** How long other requests may wait for one body, in milliseconds. On a slow machine, it may take longer. */
const MAX_TURN_MS = 100
/** The same, as a multiple of the time that V8 takes to parse the largest record. On a fast machine, the two are about equal. */
const MAX_TURN_IN_RECORDS = 5
/** The best of these tries counts, because code is compiled when it first runs, and any turn may include a garbage collection. */
const TRIES = 3

/** Sends each of the bodies, and requests /healthz in a loop until the response has arrived. */
export async function testEventLoop(t: Test, bodies: readonly WorstBody[]): Promise<void> {
  const { app, key } = await createApp(t, { SHED_INGEST_SECONDS: '60', SHED_READ_SECONDS: '60' })
  const port = await listen(app)
  const agent = new Agent({ keepAlive: true })
  const turns = watchEventLoop()
  t.teardown(() => {
    turns.stop()
    agent.destroy()
  })

  /** Discards the body of the response: the client shares the thread, so its work would be measured too. */
  function send(method: string, path: string, headers: Record<string, string> = {}, body?: Buffer): Promise<number> {
    const authorization = `Bearer ${key}`
    return new Promise((resolve, reject) => {
      open({ host: '127.0.0.1', port, method, path, agent, headers: { authorization, ...headers } }, (response) => {
        response.resume().on('end', () => resolve(response.statusCode as number))
      })
        .on('error', reject)
        .end(body)
    })
  }

  for (const { name, headers, make } of bodies) {
    await t.test(`other requests are answered during this one: ${name}`, async (t) => {
      const body = make()
      let best = Number.POSITIVE_INFINITY
      for (let tries = 0; tries < TRIES && best >= MAX_TURN_MS; tries++) {
        turns.takeLongest()
        let isAnswered = false
        const sent = send('POST', '/v1/records', headers, body).finally(() => {
          isAnswered = true
        })
        let others = 0
        while (!isAnswered) if ((await send('GET', '/healthz')) === 200) others++
        const longest = turns.takeLongest()
        // If the machine gives this process no time for seconds, requests are shed in spite of the settings.
        if ((await sent) === 503) continue
        best = Math.min(best, longest)
        t.ok((await sent) < 500, `${await sent}`)
        // At least one: a body that is refused early leaves no time for more.
        t.ok(others > 0, `${others} other requests were answered`)
      }
      const bound = best < MAX_TURN_MS ? MAX_TURN_MS : Math.max(MAX_TURN_MS, MAX_TURN_IN_RECORDS * readRecord())
      t.ok(best < bound, `the longest turn took ${Math.round(best)} ms; the limit is ${Math.round(bound)} ms`)
    })
  }
}

/** @returns the processor time, in milliseconds, that parsing 1 MiB of short keys takes now: the best of some tries */
function readRecord(): number {
  const text = manyKeys(1024 * 1024)
  const times = Array.from({ length: TRIES }, () => {
    const before = process.threadCpuUsage()
    JSON.parse(text)
    const { user, system } = process.threadCpuUsage(before)
    return (user + system) / 1000
  })
  return Math.min(...times)
}
