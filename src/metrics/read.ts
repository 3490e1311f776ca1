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

/** Of one without labels reset() would leave a nought: not the same as nothing to tell. */
function clear(metric: Counter | Gauge): void {
  metric.reset()
  metric.remove({})
}

const toSamples = (reading: Reading) => (typeof reading === 'number' ? ([[{}, reading]] as const) : reading)
