import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setImmediate as nextTurn } from 'node:timers/promises'
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

/** Makes every turn of the event loop at least so long, until it is told to stop. */
function lag(milliseconds: number): () => Promise<void> {
  let over = false
  const running = (async () => {
    while (!over) {
      for (const end = performance.now() + milliseconds; performance.now() < end; );
      await nextTurn()
    }
  })()
  return () => {
    over = true
    return running
  }
}

// The lag has no upper bound: the machine may be busy. So nothing here depends on one.
t.test('when the event loop lags, what has the lower limit is shed, and probes never', async (t) => {
  const database = await createDatabase(t)
  const ingestOnly = await createApp(t, { SHED_INGEST_SECONDS: '0.1', SHED_READ_SECONDS: '60' }, database)
  const both = await createApp(t, { SHED_INGEST_SECONDS: '0.1', SHED_READ_SECONDS: '0.1' }, database)
  for (const { app, post, get } of [ingestOnly, both]) {
    await app.ready()
    await until('a record to be stored', async () => (await post(record)).status < 300)
    // With the connections that they need: the turns below may be too long for a login at the database.
    for (const path of ['/v1/records/shop/1', '/v1/records'])
      await until('a read to be served', async () => (await get(path)).status === 200)
  }
  const before = [ingestOnly, both].map(({ app }) => ({ ...app.shedding.shed }))

  const stop = lag(150)
  await until('ingestion to be shed', () => ingestOnly.app.shedding.state === 'ingest')
  const shed = await ingestOnly.post(record)
  isProblem(t, shed, 'overloaded')
  t.equal(shed.headers['retry-after'], '1')
  t.match(shed.headers['x-request-id'], /\S/)
  const nobody = await ingestOnly.post(record, { authorization: 'Bearer nobody' })
  isProblem(t, nobody, 'overloaded', { name: 'before the key' })
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
    // Longer than the two intervals into which the first of these turns may fall.
    run(Array(Math.ceil(5_000 / milliseconds)).fill(milliseconds))
    t.equal(app.shedding.state, state, `turns of ${milliseconds} ms`)
    t.same(await statuses(), expected, `turns of ${milliseconds} ms`)
  }
  t.same(app.shedding.shed, { ingest: 4, read: 1 })
})

t.test('one long turn among others is no overload', async (t) => {
  const { app, run } = await simulate(t, { SHED_INGEST_SECONDS: '0.1', SHED_READ_SECONDS: '0.1' })
  const seen = new Set<string>()
  // The long turn falls at different points of an interval.
  for (let quiet = 50; quiet < 250; quiet += 7) {
    for (const milliseconds of [...Array(quiet).fill(5), 400, ...Array(400).fill(5)]) {
      run([milliseconds])
      seen.add(app.shedding.state)
    }
  }
  t.same([...seen], ['none'])
})

// @fastify/under-pressure calls the lag infinite where the event loop had less than two turns in two seconds. So a limit of any
// size was passed: by an instance that was stopped for a moment, or that waited for a processor.
t.test(
  'a turn that takes longer than the lag is measured is no more than that, and sheds nothing below a higher limit',
  async (t) => {
    const { app, stand, statuses } = await simulate(t, { SHED_INGEST_SECONDS: '60', SHED_READ_SECONDS: '60' })
    stand(2_100)
    t.equal(app.memoryUsage().eventLoopDelay, Number.POSITIVE_INFINITY)
    t.same(await statuses(), [200, 200, 200])
    t.same(app.shedding.shed, { ingest: 0, read: 0 })
    t.equal(app.shedding.state, 'none')
    t.equal(app.shedding.delaySeconds, 2)
  },
)

// — helpers —

/** The plugin alone, with an event loop whose turns take as long as the test says. */
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
    /** Simulates turns with these durations, in milliseconds. */
    run(turns: number[]) {
      for (const milliseconds of turns) {
        measureTurn(milliseconds)
        clock.jump(milliseconds)
      }
    },
    /** Simulates a turn that is not measured, because it lasts longer than the interval. */
    stand: (milliseconds: number) => clock.jump(milliseconds),
    /** The statuses of ingestion, a read and a probe. */
    statuses: () =>
      Promise.all(['/ingest', '/read', '/probe'].map(async (url) => (await app.inject({ url })).statusCode)),
  }
}

/** Lets the histograms of event-loop delays have what the test measured, until `t` is over. */
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
