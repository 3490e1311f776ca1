import { Agent, request as open } from 'node:http'
import type { Test } from 'tap'
import { createApp } from './app.ts'
import { listen } from './socket.ts'
import { watchTurns } from './turns.ts'
import { manyKeys, type WorstBody } from './worst-bodies.ts'

/** In milliseconds, which is what everyone else may have to wait for one body; a slow machine may take longer. */
const LONGEST_TURN = 100
/** The same as a multiple of what V8 takes to read the largest record by itself: about as much on a fast machine. */
const LONGEST_IN_RECORDS = 5
/** The first time that code runs it is compiled, and a collection can fall into any turn: the best of some tries counts. */
const TRIES = 3

/** Sends each of the bodies, and asks for /healthz again and again until it is answered. */
export async function testTurns(t: Test, bodies: readonly WorstBody[]): Promise<void> {
  const { app, key } = await createApp(t, { SHED_INGEST_SECONDS: '60', SHED_READ_SECONDS: '60' })
  const port = await listen(app)
  const agent = new Agent({ keepAlive: true })
  const turns = watchTurns()
  t.teardown(() => {
    turns.stop()
    agent.destroy()
  })

  /** Drops what is answered: the client shares the thread, and what it does would be measured too. */
  function send(method: string, path: string, headers: Record<string, string> = {}, body?: Buffer): Promise<number> {
    const authorization = `Bearer ${key}`
    return new Promise((resolve, reject) => {
      open({ host: '127.0.0.1', port, method, path, agent, headers: { authorization, ...headers } }, (answer) => {
        answer.resume().on('end', () => resolve(answer.statusCode as number))
      })
        .on('error', reject)
        .end(body)
    })
  }

  for (const { name, headers, make } of bodies) {
    await t.test(`others are answered while this is taken: ${name}`, async (t) => {
      const body = make()
      let best = Number.POSITIVE_INFINITY
      for (let tries = 0; tries < TRIES && best >= LONGEST_TURN; tries++) {
        turns.takeLongest()
        let isAnswered = false
        const sent = send('POST', '/v1/records', headers, body).finally(() => {
          isAnswered = true
        })
        let others = 0
        while (!isAnswered) if ((await send('GET', '/healthz')) === 200) others++
        const longest = turns.takeLongest()
        // Where the machine gives this process no time for seconds, requests are shed, whatever the settings say.
        if ((await sent) === 503) continue
        best = Math.min(best, longest)
        t.ok((await sent) < 500, `${await sent}`)
        // What is refused early leaves no time for more.
        t.ok(others > 0, `${others} were answered`)
      }
      const bound = best < LONGEST_TURN ? LONGEST_TURN : Math.max(LONGEST_TURN, LONGEST_IN_RECORDS * readRecord())
      t.ok(best < bound, `the longest turn took ${Math.round(best)} ms, of ${Math.round(bound)}`)
    })
  }
}

/** @returns the milliseconds of processor time that a record of 1 MiB of short keys takes at this moment: the best of some tries */
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
