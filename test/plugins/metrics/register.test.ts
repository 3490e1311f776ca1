import { Gauge, Histogram, Registry } from 'prom-client'
import t from 'tap'
import { registerHistogram } from '../../../src/plugins/metrics/register.ts'
import { checkPinned } from '../../helpers/pinned.ts'

// If one of these tests fails after an update, `registerHistogram` no longer matches the source of prom-client.

const HISTOGRAM = { name: 'size', help: 'A size.', buckets: [1, 10] }

t.test('package.json pins the installed prom-client', async (t) => checkPinned(t, 'prom-client'))

t.test('the registry treats an object with a name and `get` like a Histogram', async (t) => {
  const [ours, theirs] = [new Registry(), new Registry()]
  registerHistogram(ours, { ...HISTOGRAM, read: () => [{ labels: { kind: 'a"b' }, counts: [1, 2, 3], sum: 70.5 }] })
  const histogram = new Histogram({ ...HISTOGRAM, labelNames: ['kind'], registers: [theirs] })
  for (const value of [0.5, 2, 3, 15, 20, 30]) histogram.observe({ kind: 'a"b' }, value)

  t.equal(await ours.metrics(), await theirs.metrics(), 'as text')
  t.equal(await ours.getSingleMetricAsString('size'), await theirs.getSingleMetricAsString('size'), 'as text, alone')
  t.match(await theirs.getMetricsAsJSON(), await ours.getMetricsAsJSON(), 'as objects')
})

t.test('its name is taken', async (t) => {
  const registry = new Registry()
  registerHistogram(registry, { ...HISTOGRAM, read: () => [] })
  t.throws(() => new Gauge({ name: 'size', help: 'Another size.', registers: [registry] }), /already been registered/)
})

t.test('`read` is called at each scrape', async (t) => {
  const registry = new Registry()
  let sum = 0
  registerHistogram(registry, { ...HISTOGRAM, read: () => [{ labels: {}, counts: [0, 0, 1], sum: ++sum }] })
  t.match(await registry.metrics(), /^size_sum 1$/m)
  t.match(await registry.metrics(), /^size_sum 2$/m)
})
