import type { Command } from 'commander'
import { findKey } from '../client/key.ts'
import { request } from '../client/request.ts'
import { retry } from '../client/retry.ts'
import { checkReachable, readJson, urlOption } from '../client/server.ts'
import { duration } from '../lib/duration.ts'
import { printable } from '../lib/printable.ts'
import type { StatusDocument } from '../schemas/status.ts'

/** Who asks for the status wants to know now. */
const TRIES = 2

/** Records are counted about a second after they were stored. */
const UP_TO_DATE_SECONDS = 5

const HELP = `
The API key is SLUICE_KEY, or else the key that npm start created. It needs the scope read, and no source prefixes.

The exit code is 0 if the health is ok, otherwise 1.`

/** Options of `sluice status`. */
export function defineStatus(command: Command): void {
  command
    .addOption(urlOption())
    .option('--json', 'the response of the server')
    .addHelpText('after', HELP)
    .action(runStatus)
}

/** @throws Error with a sentence */
async function runStatus({ url, json }: { url: string; json?: true }): Promise<void> {
  const server = { url, token: (await findKey()).token }
  await checkReachable(url)
  const answer = await retry(() => request(server, '/v1/status', {}), { tries: TRIES })
  const status = readJson(answer, answer.text, url) as StatusDocument
  process.stdout.write(json === true ? `${answer.text}\n` : `${describe(status).map(printable).join('\n')}\n`)
  if (status.health !== 'ok') process.exitCode = 1
}

function describe(status: StatusDocument): string[] {
  const rows = facts(status)
  const width = Math.max(...rows.map(([name]) => name.length)) + 2
  return [
    status.health.toUpperCase(),
    ...status.findings.map(({ level, detail }) => `  ${level}: ${detail}`),
    '',
    ...rows.map(([name, value]) => name.padEnd(width) + value),
  ]
}

function facts({
  at,
  instance,
  instances,
  storage,
  statistics,
  consumers,
  consumerCount,
  jobs,
}: StatusDocument): [string, string][] {
  return [
    ['Instances', describeInstances(instances)],
    [
      'Waiting',
      instance.waitingRequests === 0
        ? `no requests on ${instance.name}`
        : `${instance.waitingRequests} ${instance.waitingRequests === 1 ? 'request' : 'requests'} on ${instance.name}, the oldest for ${instance.oldestWaitingSeconds.toFixed(1)} s`,
    ],
    ['Storage', storage === null ? 'no budget (STORAGE_BUDGET)' : describeStorage(storage)],
    ['Statistics', describeStatistics(statistics)],
    ['Consumers', describeConsumers(consumers, consumerCount)],
    ...describeJobs(jobs, at),
  ]
}

const NOT_KNOWN = 'not known'

function describeInstances(instances: StatusDocument['instances']): string {
  if (instances === null) return NOT_KNOWN
  const versions = new Set(instances.map(({ version }) => version))
  return `${instances.length}, version ${[...versions].join(' and ')}`
}

function describeConsumers(consumers: StatusDocument['consumers'], count: number | null): string {
  if (consumers === null || count === null) return NOT_KNOWN
  const [last] = consumers
  if (last === undefined || last.records === 0) return count === 0 ? 'none' : `${count}, up to date`
  return `${count}, the furthest behind is ${last.name}: ${last.records.toLocaleString('en')} records, ${duration(last.seconds)}`
}

function describeJobs(jobs: StatusDocument['jobs'], at: string): [string, string][] {
  if (jobs === null) return [['Jobs', NOT_KNOWN]]
  if (jobs.length === 0) return [['Jobs', 'none has run']]
  // The clock of the database may be ahead of that of the server.
  const ago = (time: string) => `${duration(Math.max(0, Date.parse(at) - Date.parse(time)) / 1000)} ago`
  return jobs.map(({ job, succeeded, finishedAt, succeededAt }) => {
    const name = `${job[0]?.toUpperCase()}${job.slice(1).replaceAll('_', ' ')}`
    if (succeeded) return [name, `succeeded ${ago(finishedAt)}`]
    const before = succeededAt === null ? 'never succeeded' : `last succeeded ${ago(succeededAt)}`
    return [name, `failed ${ago(finishedAt)}, ${before}`]
  })
}

function describeStorage({ usedBytes, budgetBytes, fullAt, growth }: StatusDocument['storage'] & object): string {
  const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB`
  if (usedBytes === null) return `not measured yet, of ${gigabytes(budgetBytes)}`
  const share = `${gigabytes(usedBytes)} of ${gigabytes(budgetBytes)}`
  return fullAt === null
    ? share
    : `${share}, full on ${fullAt.slice(0, 10)} if it grows as it did in the last ${growth}`
}

function describeStatistics(statistics: StatusDocument['statistics']): string {
  if (statistics === null) return 'off (ROLLUP_MAX_SERIES)'
  const { lagSeconds, backfill } = statistics
  if (lagSeconds === null) return 'not known yet'
  const lag = lagSeconds < UP_TO_DATE_SECONDS ? 'up to date' : `${duration(lagSeconds)} behind`
  return backfill === null ? lag : `${lag}, ${Math.floor(backfill * 100)} % of the older records are counted`
}
