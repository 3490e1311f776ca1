import type { FastifyInstance } from 'fastify'

/** The metrics, as Prometheus would read them. */
export interface Scrape {
  text: string
  samples: { name: string; labels: Record<string, string>; value: number }[]
  /** The value of the sample with this name and at least these labels, or undefined. Throws if there are several. */
  value(name: string, labels?: Record<string, string>): number | undefined
}

/** Reads the metrics of an app, without a socket. */
export const scrape = async ({ metricsServer }: FastifyInstance): Promise<Scrape> =>
  readMetrics((await metricsServer.inject('/metrics')).body)

/** Parses the text format of Prometheus, as prom-client writes it. Throws if a line has another form. */
export function readMetrics(text: string): Scrape {
  const samples = text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [, name, labels = '', value] = /^([a-z_\d]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
      if (name === undefined) throw new Error(`not a sample: ${line}`)
      const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"(?:,|$)/g)].map(([, name, value]) => [name, value])
      return { name, labels: Object.fromEntries(pairs) as Record<string, string>, value: Number(value) }
    })
  const find = (name: string, labels: Record<string, string>) =>
    samples.filter((sample) => sample.name === name && Object.entries(labels).every(([k, v]) => sample.labels[k] === v))
  return {
    text,
    samples,
    value(name, labels = {}) {
      const [sample, ...others] = find(name, labels)
      if (others.length > 0) throw new Error(`${name} ${JSON.stringify(labels)} matches ${others.length + 1} samples`)
      return sample?.value
    },
  }
}
