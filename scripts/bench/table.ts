import type { BenchDatabase } from './database.ts'
import type { FloodName } from './floods/floods.ts'

export interface Options {
  rounds: number
  seconds: number
  /** Absent: each measurement has its own default. */
  records?: number
  gib: number
  stored: number
  oldRecords: number
  followers: number
  /** Absent: run all floods. */
  floods?: FloodName[]
  floodSeconds: number
  profile?: string
}

/** Runs one measurement and returns its table. @throws if there is no result, or if the result would prove nothing */
export type Measure = (run: Run) => Promise<Outcome>

export interface Run {
  database: BenchDatabase
  options: Options
}

export interface Outcome {
  rows: TableRow[]
  /** Why the run has failed, although it has a table. */
  faults: string[]
}

/** One row of a table. Its values are medians over the rounds. */
export interface TableRow {
  name: string
  /** Records per second. */
  rate?: number
  /** Latencies of requests. */
  p50_ms?: number
  p99_ms?: number
  worst_ms?: number
  /** Requests that did not succeed. */
  failed?: number
  /** Requests that the flood sent during the measurement, and those that were still waiting for a response at its end. */
  attacks?: number
  /** Processor time of the server per record, in microseconds. */
  cpu_us?: number
  /** Statements per second of an idle server. */
  queries?: number
  /** Peak memory of the server. */
  rss_mib?: number
  /** The rate (or the p99, if the name says so) divided by the one of the named row in the same round. */
  ratios: Record<string, number>
}

/** Shows only the columns for which a row has a value. */
export function toTable(rows: readonly TableRow[]): string {
  const ratios = [...new Set(rows.flatMap((row) => Object.keys(row.ratios)))]
  const columns: [string, (row: TableRow) => string | undefined][] = [
    ['records/s', ({ rate }) => rate?.toLocaleString('en')],
    ['p50 ms', ({ p50_ms }) => p50_ms?.toFixed(2)],
    ['p99 ms', ({ p99_ms }) => p99_ms?.toFixed(2)],
    ['worst ms', ({ worst_ms }) => worst_ms?.toFixed(0)],
    ['failed', ({ failed }) => failed?.toFixed(0)],
    ['attacks', ({ attacks }) => attacks?.toLocaleString('en')],
    ['CPU µs/record', ({ cpu_us }) => cpu_us?.toFixed(1)],
    ['queries/s', ({ queries }) => queries?.toFixed(1)],
    ['peak MiB', ({ rss_mib }) => rss_mib?.toFixed(0)],
    ...ratios.map((name): (typeof columns)[number] => [`vs ${name}`, (row) => row.ratios[name]?.toFixed(2)]),
  ]
  const shown = columns.filter(([, cell]) => rows.some((row) => cell(row) !== undefined))
  return [
    toLine(
      '',
      shown.map(([title]) => title),
    ),
    ...rows.map((row) =>
      toLine(
        row.name,
        shown.map(([, cell]) => cell(row) ?? ''),
      ),
    ),
  ].join('\n')
}

const toLine = (name: string, cells: string[]) => name.padEnd(26) + cells.map((cell) => cell.padStart(15)).join('')

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = (sorted.length - 1) / 2
  return ((sorted[Math.floor(middle)] as number) + (sorted[Math.ceil(middle)] as number)) / 2
}

/** The median of the ratios of each round, not the ratio of the medians: other load on the machine slows down both in a round. */
export const medianRatio = (own: readonly number[], others: readonly number[]): number =>
  rounded(median(own.map((rate, round) => rate / (others[round] as number))))

export const rounded = (value: number): number => Math.round(value * 100) / 100
