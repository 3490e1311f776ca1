import { Counter, Gauge, type Registry } from 'prom-client'

/** Values of one metric: a number, or one for each set of labels. */
type MetricValue = number | readonly (readonly [labels: Record<string, string>, value: number])[]

interface Definition {
  name: string
  help: string
  labelNames?: string[]
  /** Called at each scrape. */
  read: () => MetricValue | Promise<MetricValue>
}

/** A gauge whose value is read at each scrape. */
export function registerGauge(registry: Registry, { read, ...definition }: Definition): void {
  new Gauge({
    ...definition,
    registers: [registry],
    async collect() {
      const samples = toSamples(await read())
      clear(this)
      for (const [labels, value] of samples) this.set(labels, value)
    },
  })
}

/** A counter whose value is read at each scrape: incrementing a plain number costs a request nothing. */
export function registerCounter(registry: Registry, { read, ...definition }: Definition): void {
  new Counter({
    ...definition,
    registers: [registry],
    async collect() {
      const samples = toSamples(await read())
      clear(this)
      for (const [labels, value] of samples) this.inc(labels, value)
    },
  })
}

/** The counts of a histogram for one set of labels. */
export interface Observed {
  labels: Record<string, string>
  /** Each value is counted once, in the first bucket that it fits into. The last count is for values above all buckets. */
  counts: number[]
  sum: number
}

/**
 * A histogram whose counts are read at each scrape. prom-client has no documented way to set the counts of a Histogram, so this
 * registers an object of its own. Undocumented: the registry needs only `name` and `get` (lib/registry.js, `registerMetric` and
 * `getMetricsAsString`), and `get` returns what that of a Histogram returns (lib/histogram.js). package.json pins the version, and
 * test/plugins/metrics/register.test.ts fails if this changes. No other file uses undocumented parts of prom-client
 * (test/architecture.test.ts checks it).
 */
export function registerHistogram(
  registry: Registry,
  {
    name,
    help,
    buckets,
    read,
  }: { name: string; help: string; buckets: readonly number[]; read: () => Iterable<Observed> },
): void {
  const get = async () => ({ name, help, type: 'histogram', values: [...read()].flatMap(toValues) })
  registry.registerMetric({ name, get } as never)

  function toValues({ labels, counts, sum }: Observed) {
    let count = 0
    const cumulative = counts.map((inBucket, at) => {
      count += inBucket
      return { metricName: `${name}_bucket`, labels: { le: buckets[at] ?? '+Inf', ...labels }, value: count }
    })
    return [
      ...cumulative,
      { metricName: `${name}_sum`, labels, value: sum },
      { metricName: `${name}_count`, labels, value: count },
    ]
  }
}

/** In a metric without labels, reset() leaves the value 0, which is not the same as no value. */
function clear(metric: Counter | Gauge): void {
  metric.reset()
  metric.remove({})
}

const toSamples = (reading: MetricValue) => (typeof reading === 'number' ? ([[{}, reading]] as const) : reading)
