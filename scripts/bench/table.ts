import type { Measurement } from './load.ts'

/** The three that are compared; each is measured in every round, in this order. */
export const SERVERS = ['limit', 'naive', 'ours'] as const
export type ServerName = (typeof SERVERS)[number]

/** One line of the table: the medians of the rounds. */
export interface Row {
  name: string
  /** Records a second. */
  rate: number
  /** Of a request. */
  p50_ms: number
  p99_ms: number
  /** The rate, as a multiple of theirs in the same round. */
  ratios: { limit: number; naive: number }
}

export function toRows(shape: string, measured: Record<ServerName, Measurement[]>): Row[] {
  return SERVERS.map((name) => {
    const own = measured[name]
    // Round by round, not of the medians: what else the machine did in a round slowed down all three.
    const ratioTo = (other: ServerName) =>
      rounded(median(own.map(({ rate }, round) => rate / (measured[other][round] as Measurement).rate)))
    return {
      name: `${shape} ${name}`,
      rate: Math.round(median(own.map(({ rate }) => rate))),
      p50_ms: rounded(median(own.map(({ p50_ms }) => p50_ms))),
      p99_ms: rounded(median(own.map(({ p99_ms }) => p99_ms))),
      ratios: { limit: ratioTo('limit'), naive: ratioTo('naive') },
    }
  })
}

export function toTable(rows: readonly Row[]): string {
  const lines = [
    ['', 'records/s', 'p50 ms', 'p99 ms', 'of limit', 'of naive'],
    ...rows.map(({ name, rate, p50_ms, p99_ms, ratios }) => [
      name,
      rate.toLocaleString('en'),
      p50_ms.toFixed(2),
      p99_ms.toFixed(2),
      ratios.limit.toFixed(2),
      ratios.naive.toFixed(2),
    ]),
  ]
  return lines.map(([name = '', ...values]) => name.padEnd(14) + values.map((v) => v.padStart(11)).join('')).join('\n')
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = (sorted.length - 1) / 2
  return ((sorted[Math.floor(middle)] as number) + (sorted[Math.ceil(middle)] as number)) / 2
}

const rounded = (value: number) => Math.round(value * 100) / 100
