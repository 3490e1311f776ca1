import { Counter, Gauge, type Registry } from 'prom-client'

/** Values of one metric: a number, or one for each set of labels. */
export type Reading = number | readonly (readonly [labels: Record<string, string>, value: number])[]

interface Definition {
  name: string
  help: string
  labelNames?: string[]
  /** Asked at each scrape. */
  read: () => Reading | Promise<Reading>
}

/** A gauge whose value is kept elsewhere. */
export function readGauge(registry: Registry, { read, ...definition }: Definition): void {
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

/** A counter that is kept elsewhere: plain numbers cost the way of a request nothing. */
export function readCounter(registry: Registry, { read, ...definition }: Definition): void {
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

/** What a histogram counted under one set of labels. */
export interface Observed {
  labels: Record<string, string>
  /** By the first bucket that the value fits into; those that fit into none come last. */
  counts: number[]
  sum: number
}

/** A histogram that is kept elsewhere. It gives a registry what a Histogram of prom-client does when it is scraped. */
export function readHistogram(
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
    const cumulated = counts.map((fits, at) => {
      count += fits
      return { metricName: `${name}_bucket`, labels: { le: buckets[at] ?? '+Inf', ...labels }, value: count }
    })
    return [
      ...cumulated,
      { metricName: `${name}_sum`, labels, value: sum },
      { metricName: `${name}_count`, labels, value: count },
    ]
  }
}

/** Of one without labels reset() would leave a nought: not the same as nothing to tell. */
function clear(metric: Counter | Gauge): void {
  metric.reset()
  metric.remove({})
}

const toSamples = (reading: Reading) => (typeof reading === 'number' ? ([[{}, reading]] as const) : reading)
