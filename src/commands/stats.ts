import { type Command, Option } from 'commander'
import { findKey } from '../client/key.ts'
import { plot } from '../client/plot.ts'
import { request } from '../client/request.ts'
import { retry } from '../client/retry.ts'
import { checkReachable, readJson, urlOption } from '../client/server.ts'
import { printable } from '../lib/printable.ts'
import { BUCKET_SECONDS, type StatsDocument, type StatsQuery } from '../schemas/stats.ts'
import { nameOption, optionOf } from './name-option.ts'

interface Options extends Record<keyof StatsQuery, string | undefined> {
  url: string
  json?: true
}

/** The parameters of GET /v1/stats that are options with a value, with their descriptions. */
const PARAMETERS = {
  from: [
    'time',
    'buckets from this time on, such as 2026-01-31T12:00:00Z; default: 60 minutes, 7 days or 90 days before --until',
  ],
  until: ['time', 'buckets before this time; default: now'],
  type: ['type', 'records of this type'],
  source: ['source', 'records of this source'],
  sourcePrefix: ['text', 'records whose source starts with this text'],
  limit: ['n', 'with --by: how many types or sources are shown separately; default: 20'],
} as const
const NAMES = Object.keys(PARAMETERS) as (keyof typeof PARAMETERS)[]

const HELP = `
The API key is SLUICE_KEY, or else the key that npm start created. It needs the scope read.

Shows how many records came in over time: all together, or with --by one line per type or source. Times are in UTC.

  sluice stats
  sluice stats --bucket minute --by type
  sluice stats --bucket day --from 2026-01-01T00:00:00Z --json | jq '.buckets | map(.records) | add'`

/** Options of `sluice stats`. */
export function defineStats(command: Command): void {
  command
    .addOption(urlOption())
    .addOption(
      new Option('--bucket <length>', 'the length of a bucket').choices(['minute', 'hour', 'day']).default('hour'),
    )
    .addOption(new Option('--by <what>', 'one line for each type, or each source').choices(['type', 'source']))
  for (const name of NAMES) {
    const [placeholder, description] = PARAMETERS[name]
    command.option(`${optionOf(name)} <${placeholder}>`, description)
  }
  command.option('--json', 'the response of the server').addHelpText('after', HELP).action(runStats)
}

/** @throws Error with a sentence */
async function runStats({ url, json, ...options }: Options): Promise<void> {
  const server = { url, token: (await findKey()).token }
  await checkReachable(url)
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(options)) if (value !== undefined) query.set(name, value)
  const answer = await retry(() => request(server, `/v1/stats?${query}`, {})).catch(
    nameOption([...NAMES, 'bucket'], {}),
  )
  const stats = readJson(answer, answer.text, url) as StatsDocument
  process.stdout.write(
    json === true ? `${answer.text}\n` : `${describe(stats, options.by as 'type' | 'source' | undefined).join('\n')}\n`,
  )
}

const HEIGHT = 8
const MAX_WIDTH = 120
/** Of the width of the terminal, for what is beside a plot. */
const BESIDE = 20

function describe(stats: StatsDocument, by: 'type' | 'source' | undefined): string[] {
  const { bucket, from, until } = stats
  const width = Math.min(MAX_WIDTH, Math.max(BESIDE, (process.stdout.columns ?? 80) - BESIDE))
  const sums = OUTCOMES.map(([name, label]) => `${total(stats.buckets, name)} ${label}`)
  const { perColumn } = plot(recordsOverTime(stats, stats.buckets), width, 1)
  const length = perColumn === 1 ? bucket : `${perColumn} ${bucket}s`
  return [
    `Records per ${length}, ${forPeople(from)} to ${forPeople(until)} UTC: ${sums.join(', ')}, ${bytesForPeople(stats)}`,
    '',
    ...(by === undefined ? plotAll(stats, width) : plotEach(stats, by, width)),
    ...notes(stats),
  ]
}

const OUTCOMES = [
  ['records', 'stored'],
  ['duplicates', 'duplicate'],
  ['rejected', 'rejected'],
] as const

type Bucket = StatsDocument['buckets'][number]
type Quantity = 'records' | 'bytes' | 'duplicates' | 'rejected'
const sum = (buckets: readonly Bucket[], of: Quantity) => buckets.reduce((total, bucket) => total + bucket[of], 0)
const total = (buckets: readonly Bucket[], of: Quantity) => sum(buckets, of).toLocaleString('en')

function plotAll(stats: StatsDocument, width: number): string[] {
  const { lines, highest } = plot(recordsOverTime(stats, stats.buckets), width, HEIGHT)
  return lines.map((line, at) => (at === 0 ? `${line.padEnd(width)} ${highest.toLocaleString('en')}` : line.trimEnd()))
}

function plotEach(stats: StatsDocument, by: 'type' | 'source', width: number): string[] {
  const groups = [...Map.groupBy(stats.buckets, (bucket) => bucket[by] ?? null)]
  // Those with the most records first, and the others last.
  const rank = ([name, buckets]: (typeof groups)[0]) => (name === null ? -1 : sum(buckets, 'records'))
  const sorted = groups.toSorted((one, other) => rank(other) - rank(one))
  return sorted.map(([name, buckets]) => {
    const [line = ''] = plot(recordsOverTime(stats, buckets), width, 1).lines
    return `${line.padEnd(width)} ${total(buckets, 'records')} ${name === null ? '(others)' : printable(name)}`
  })
}

/** The number of records in each bucket, also in those that the response leaves out. */
function recordsOverTime({ bucket, from, until }: StatsDocument, buckets: readonly Bucket[]): number[] {
  const known = new Map(buckets.map(({ start, records }) => [Date.parse(start), records]))
  const numbers: number[] = []
  for (let at = Date.parse(from); at < Date.parse(until); at += BUCKET_SECONDS[bucket] * 1000)
    numbers.push(known.get(at) ?? 0)
  return numbers
}

function notes({ lagSeconds, backfill, isLimited }: StatsDocument): string[] {
  const all = []
  if (lagSeconds > MAX_LAG) all.push(`The records of the last ${Math.ceil(lagSeconds)} seconds are not counted yet.`)
  if (backfill !== null)
    all.push(`Older records are still being counted: about ${Math.floor(backfill * 100)} % of them are.`)
  if (isLimited)
    all.push('There are more types and sources than ROLLUP_MAX_SERIES: some are counted only under (others).')
  return all.length === 0 ? [] : ['', ...all]
}

/** In seconds. Less is usual. */
const MAX_LAG = 5

const forPeople = (time: string) => `${time.slice(0, 10)} ${time.slice(11, 16)}`

const bytesForPeople = ({ buckets }: StatsDocument) => `${(sum(buckets, 'bytes') / 1e6).toFixed(1)} MB`
