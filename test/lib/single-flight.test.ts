import t from 'tap'
import { SingleFlight } from '../../src/lib/single-flight.ts'

/** Each run waits until the test ends it. */
function start() {
  const runs: PromiseWithResolvers<string>[] = []
  const flight = new SingleFlight(() => {
    const run = Promise.withResolvers<string>()
    runs.push(run)
    return run.promise
  })
  return { flight, runs }
}

t.test('calls during a run share it; the next call after it starts another one', async (t) => {
  const { flight, runs } = start()
  const calls = [flight.run(), flight.run()]
  t.equal(runs.length, 1)
  runs[0]?.resolve('first')
  t.strictSame(await Promise.all(calls), ['first', 'first'])

  const next = flight.run()
  t.equal(runs.length, 2)
  runs[1]?.resolve('second')
  t.equal(await next, 'second')
})

t.test('all calls fail with a run that fails, and the next call starts another one', async (t) => {
  const { flight, runs } = start()
  const calls = [flight.run(), flight.run()]
  runs[0]?.reject(new Error('failed'))
  for (const call of calls) await t.rejects(call, { message: 'failed' })

  const next = flight.run()
  runs[1]?.resolve('second')
  t.equal(await next, 'second')
})

t.test('it is idle when no run is under way, also after one that failed', async (t) => {
  const { flight, runs } = start()
  await flight.idle()
  const failed = t.rejects(flight.run())
  let isIdle = false
  const idle = flight.idle().then(() => {
    isIdle = true
  })
  await new Promise(setImmediate)
  t.notOk(isIdle)
  runs[0]?.reject(new Error('failed'))
  await Promise.all([failed, idle])
})
