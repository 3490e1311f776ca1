import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate as nextIteration } from 'node:timers/promises'
import Fastify from 'fastify'
import fp from 'fastify-plugin'
import { Registry } from 'prom-client'
import t, { type Test } from 'tap'
import { loadConfig } from '../../src/config.ts'
import shedding from '../../src/plugins/shedding.ts'
import { createApp } from '../helpers/app.ts'
import { stopClock } from '../helpers/clock.ts'
import { createDatabase } from '../helpers/postgres.ts'
import { isProblem } from '../helpers/problem.ts'
import { until } from '../helpers/until.ts'

const record = '{"source":"shop","type":"t","id":"1"}'

/** Makes every iteration of the event loop at least this long. @returns a function that ends this */
function delayLoop(milliseconds: number): () => Promise<void> {
  let over = false
  const running = (async () => {
    while (!over) {
      for (const end = performance.now() + milliseconds; performance.now() < end; );
      await nextIteration()
    }
  })()
  return () => {
    over = true
    return running
  }
}

// The machine may be busy, so the event-loop delay has no upper bound, and nothing here depends on one.
t.test('above their limits of event-loop delay, ingestion and reads are shed, and probes never', async (t) => {
  const database = await createDatabase(t)
  const ingestOnly = await createApp(t, { SHED_INGEST_SECONDS: '0.1', SHED_READ_SECONDS: '60' }, database)
  const both = await createApp(t, { SHED_INGEST_SECONDS: '0.1', SHED_READ_SECONDS: '0.1' }, database)
  for (const { app, post, get } of [ingestOnly, both]) {
    await app.ready()
    await until('a record to be stored', async () => (await post(record)).status < 300)
    // This opens the connections that they need: the iterations below may be too long for a login at the database.
    for (const path of ['/v1/records/shop/1', '/v1/records'])
      await until('a read to be served', async () => (await get(path)).status === 200)
  }
  const before = [ingestOnly, both].map(({ app }) => ({ ...app.shedding.shed }))

  const stop = delayLoop(150)
  await until('ingestion to be shed', () => ingestOnly.app.shedding.state === 'ingest')
  const shed = await ingestOnly.post(record)
  isProblem(t, shed, 'overloaded')
  t.equal(shed.headers['retry-after'], '1')
  t.match(shed.headers['x-request-id'], /\S/)
  const nobody = await ingestOnly.post(record, { authorization: 'Bearer nobody' })
  isProblem(t, nobody, 'overloaded', { name: 'before the key is checked' })
  t.equal((await ingestOnly.get('/v1/records/shop/1')).status, 200)
  t.equal((await ingestOnly.get('/v1/records')).status, 200)

  await until('all to be shed', () => both.app.shedding.state === 'all')
  isProblem(t, await both.post(record), 'overloaded')
  isProblem(t, await both.get('/v1/records/shop/1'), 'overloaded')
  isProblem(t, await both.get('/v1/records'), 'overloaded')
  for (const probe of ['/healthz', '/readyz', '/openapi.json']) t.equal((await both.get(probe)).status, 200, probe)
  await stop()
  t.same(
    [ingestOnly, both].map(({ app: { shedding } }, at) => ({
      ingest: shedding.shed.ingest - (before[at]?.ingest ?? 0),
      read: shedding.shed.read - (before[at]?.read ?? 0),
    })),
    [
      { ingest: 2, read: 0 },
      { ingest: 1, read: 2 },
    ],
  )

  await until('ingestion to be served again', async () => (await both.post(record)).status === 200)
  await until('reads to be served again', async () => (await both.get('/v1/records/shop/1')).status === 200)
})

t.test('ingestion is shed above its limit, reads above theirs, and both are served again below them', async (t) => {
  const { app, run, statuses } = await simulate(t, { SHED_INGEST_SECONDS: '0.1', SHED_READ_SECONDS: '0.6' })
  for (const [milliseconds, state, expected] of [
    [5, 'none', [200, 200, 200]],
    [90, 'none', [200, 200, 200]],
    [150, 'ingest', [503, 200, 200]],
    [590, 'ingest', [503, 200, 200]],
    [900, 'all', [503, 503, 200]],
    [150, 'ingest', [503, 200, 200]],
    [5, 'none', [200, 200, 200]],
  ] as const) {
    // Longer than two intervals: the first one may still contain iterations of the case before.
    run(Array(Math.ceil(5_000 / milliseconds)).fill(milliseconds))
    t.equal(app.shedding.state, state, `iterations of ${milliseconds} ms`)
    t.same(await statuses(), expected, `iterations of ${milliseconds} ms`)
  }
  t.same(app.shedding.shed, { ingest: 4, read: 1 })
})

t.test('one long iteration among others is not an overload', async (t) => {
  const { app, run } = await simulate(t, { SHED_INGEST_SECONDS: '0.1', SHED_READ_SECONDS: '0.1' })
  const seen = new Set<string>()
  // The long iteration is at different points of an interval.
  for (let quiet = 50; quiet < 250; quiet += 7) {
    for (const milliseconds of [...Array(quiet).fill(5), 400, ...Array(400).fill(5)]) {
      run([milliseconds])
      seen.add(app.shedding.state)
    }
  }
  t.same([...seen], ['none'])
})

// @fastify/under-pressure reports an infinite delay if the event loop had fewer than two iterations in two seconds. So an
// instance that was stopped for a moment, or waited for a processor, exceeded a limit of any size.
t.test('an iteration longer than the interval counts as one interval: a higher limit sheds nothing', async (t) => {
  const { app, stall, statuses } = await simulate(t, { SHED_INGEST_SECONDS: '60', SHED_READ_SECONDS: '60' })
  stall(2_100)
  t.equal(app.memoryUsage().eventLoopDelay, Number.POSITIVE_INFINITY)
  t.same(await statuses(), [200, 200, 200])
  t.same(app.shedding.shed, { ingest: 0, read: 0 })
  t.equal(app.shedding.state, 'none')
  t.equal(app.shedding.delaySeconds, 2)
})

// — helpers —

/** The plugin alone. The test decides how long the iterations of its event loop take. */
async function simulate(t: Test, settings: Record<string, string>) {
  const clock = stopClock(t)
  const measureTurn = measureTurns(t)
  const app = Fastify()
  t.teardown(() => app.close())
  const metrics = async (app: { decorate(name: string, value: unknown): unknown }) => {
    app.decorate('metrics', new Registry())
  }
  await app.register(fp(metrics))
  app.decorate('config', loadConfig(settings))
  await app.register(shedding)
  app.get('/ingest', { config: { shed: 'ingest' } }, () => '')
  app.get('/read', { config: { shed: 'read' } }, () => '')
  app.get('/probe', () => '')
  await app.ready()
  return {
    app,
    /** Simulates iterations with these durations, in milliseconds. */
    run(turns: number[]) {
      for (const milliseconds of turns) {
        measureTurn(milliseconds)
        clock.jump(milliseconds)
      }
    },
    /** Simulates an iteration that is not measured, because it is longer than the interval. */
    stall: (milliseconds: number) => clock.jump(milliseconds),
    /** The statuses of ingestion, a read and a probe. */
    statuses: () =>
      Promise.all(['/ingest', '/read', '/probe'].map(async (url) => (await app.inject({ url })).statusCode)),
  }
}

/** Puts the test's durations into the histograms of event-loop delays, until `t` ends. */
function measureTurns(t: Test): (milliseconds: number) => void {
  const histogram = Object.getPrototypeOf(monitorEventLoopDelay())
  let turns: number[] = []
  Object.defineProperty(histogram, 'mean', {
    configurable: true,
    get: () => (turns.reduce((sum, milliseconds) => sum + milliseconds, 0) / turns.length) * 1e6,
  })
  histogram.reset = () => {
    turns = []
  }
  t.teardown(() => {
    delete histogram.mean
    delete histogram.reset
  })
  // Node.js measures from one timer of 10 ms to the next.
  return (milliseconds) => void turns.push(10 + milliseconds)
}
