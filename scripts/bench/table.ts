import type { BenchDatabase } from './database.ts'
import type { FloodName } from './floods/floods.ts'

export interface Options {
  rounds: number
  seconds: number
  records: number
  gib: number
  stored: number
  /** Absent: all. */
  floods?: FloodName[]
  floodSeconds: number
  profile?: string
}

/** Measures one thing, and ends with one table of it. @throws when there is nothing to show, or it would prove nothing */
export type Measure = (run: Run) => Promise<Outcome>

export interface Run {
  database: BenchDatabase
  options: Options
}

export interface Outcome {
  rows: Row[]
  /** Why the run has failed, though it has rows to show. */
  faults: string[]
}

/** One line of a table: the medians of the rounds. */
export interface Row {
  name: string
  /** Records a second. */
  rate: number
  /** Of a request. */
  p50_ms?: number
  p99_ms?: number
  worst_ms?: number
  /** Requests that did not succeed. */
  failed?: number
  /** Requests of the flood meanwhile, and those that it had waiting. */
  attacks?: number
  /** Processor time of the server for a record, in microseconds. */
  cpu_us?: number
  /** The most memory that our process had. */
  rss_mib?: number
  /** The rate, or what the name says, as a multiple of another's in the same round. */
  ratios: Record<string, number>
}

/** With the columns that its rows have. */
export function toTable(rows: readonly Row[]): string {
  const ratios = [...new Set(rows.flatMap((row) => Object.keys(row.ratios)))]
  const columns: [string, (row: Row) => string | undefined][] = [
    ['records/s', ({ rate }) => rate.toLocaleString('en')],
    ['p50 ms', ({ p50_ms }) => p50_ms?.toFixed(2)],
    ['p99 ms', ({ p99_ms }) => p99_ms?.toFixed(2)],
    ['worst ms', ({ worst_ms }) => worst_ms?.toFixed(0)],
    ['failed', ({ failed }) => failed?.toFixed(0)],
    ['attacks', ({ attacks }) => attacks?.toLocaleString('en')],
    ['CPU µs/record', ({ cpu_us }) => cpu_us?.toFixed(1)],
    ['peak MiB', ({ rss_mib }) => rss_mib?.toFixed(0)],
    ...ratios.map((name): (typeof columns)[number] => [`of ${name}`, (row) => row.ratios[name]?.toFixed(2)]),
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

/** Round by round, not of the medians: what else the machine did in a round slowed down both. */
export const medianRatio = (own: readonly number[], others: readonly number[]): number =>
  rounded(median(own.map((rate, round) => rate / (others[round] as number))))

export const rounded = (value: number): number => Math.round(value * 100) / 100
