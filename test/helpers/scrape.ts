import type { FastifyInstance } from 'fastify'

/** What /metrics says, as Prometheus would read it. */
export interface Scrape {
  text: string
  samples: { name: string; labels: Record<string, string>; value: number }[]
  /** Of the one sample with this name and these labels, among others; undefined when there is none. */
  value(name: string, labels?: Record<string, string>): number | undefined
}

/** Asks the metrics of an app, without a socket. */
export const scrape = async ({ metricsServer }: FastifyInstance): Promise<Scrape> =>
  readMetrics((await metricsServer.inject('/metrics')).body)

/** Prometheus' text format, as prom-client writes it. @throws when a line is of another form, or two say the same */
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
      if (others.length > 0) throw new Error(`${name} ${JSON.stringify(labels)} is not one, but ${others.length + 1}`)
      return sample?.value
    },
  }
}
