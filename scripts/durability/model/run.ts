import { issueKey } from '../../../src/access/manage-keys.ts'
import { withConnection } from '../../../src/commands/database.ts'
import type { Postgres } from '../postgres.ts'
import type { Attempt, History } from './history.ts'
import { Random } from './random.ts'
import { describe } from './report.ts'
import { playRound } from './round.ts'

interface ModelOptions {
  postgres: Postgres
  /** For logs. */
  folder: string
  /** Determines all random choices of the model, but not the timing of processes, disks and networks. */
  seed: number
  /** No new round begins after this time. */
  seconds: number
  /** How long clients send in a round. */
  roundSeconds: number
  stop: AbortSignal
  /** Gets each line of the report. */
  onLine: (line: string) => void
}

/** The result of a run. */
interface ModelResult {
  rounds: number
  requests: number
  records: number
  /** The number of records by what the response said about them. */
  claims: Record<string, number>
  faults: number
  /** How many statements of writers a small timeout cancelled, by fault. */
  timeouts: Record<string, number>
  /** Descriptions of the findings. */
  findings: string[]
}

/**
 * Settings of PostgreSQL. It writes an asynchronous commit to disk after wal_writer_delay, or after wal_writer_flush_after
 * (PostgreSQL manual, 19.5.1 and 28.4). Both are large here, because the model finds an asynchronous commit only if kill -9 comes before.
 */
export const SERVER_SETTINGS = { wal_writer_delay: '10s', wal_writer_flush_after: '1GB' }

/** Maximum number of findings per round and rule that are shown, because the others are likely to have the same cause. */
const EXAMPLES = 3

/**
 * Runs rounds of random requests and faults, and compares all responses with what is stored. `seed` is the seed of the first round
 * and determines those of the others.
 * @throws if a round cannot be completed, for example because an instance does not start
 */
export async function runModel(options: ModelOptions): Promise<ModelResult> {
  const { postgres, folder, seed, seconds, roundSeconds, stop, onLine } = options
  const random = new Random(seed)
  const keys = await issueKeys(postgres)
  const result: ModelResult = { rounds: 0, requests: 0, records: 0, claims: {}, faults: 0, timeouts: {}, findings: [] }
  onLine(`seed ${seed}`)
  for (const end = performance.now() + seconds * 1000; performance.now() < end || result.rounds === 0; ) {
    // Each round has its own seed, so that it can be run again alone.
    const own = result.rounds === 0 ? seed : random.int(0, 2 ** 32 - 1)
    const history = await playRound({ postgres, folder, seed: own, seconds: roundSeconds, keys, stop })
    const attempts = history.exchanges.flatMap((exchange) => exchange.attempts)
    result.rounds++
    result.requests += history.exchanges.length
    result.records += attempts.length
    result.faults += history.faults.length
    for (const { claim } of attempts) result.claims[claim] = (result.claims[claim] ?? 0) + 1
    const { findings, timeouts } = history
    for (const { fault, hits } of timeouts) result.timeouts[fault] = (result.timeouts[fault] ?? 0) + hits
    onLine(
      `round ${result.rounds}, seed ${own}: ${history.exchanges.length} requests, ${summarize(attempts)}; ` +
        `${history.faults.length} faults; ${sum(timeouts)} statements timed out; ${findings.length} findings`,
    )
    for (const [, same] of Map.groupBy(findings, ({ rule }) => rule)) {
      for (const finding of same.slice(0, EXAMPLES)) {
        result.findings.push(
          `seed ${own}, round ${result.rounds}, ${new Date().toISOString()}: ${describe(finding, history)}`,
        )
        onLine(result.findings.at(-1) as string)
      }
      if (same.length > EXAMPLES) onLine(`… and ${same.length - EXAMPLES} more findings of this rule`)
    }
  }
  for (const [fault, hits] of Object.entries(result.timeouts)) {
    if (hits > 0) continue
    result.findings.push(`${fault}: it cancelled no statement`)
    onLine(result.findings.at(-1) as string)
  }
  return result
}

const sum = (timeouts: History['timeouts']): number => timeouts.reduce((total, { hits }) => total + hits, 0)

function summarize(attempts: Attempt[]): string {
  const counts = Map.groupBy(attempts, ({ claim }) => claim)
  return [...counts]
    .map(([claim, list]) => `${claim} ${list.length}`)
    .sort()
    .join(', ')
}

async function issueKeys({ superUrl }: Postgres): Promise<{ ingest: string; read: string }> {
  return withConnection(superUrl, async (db) => {
    const issue = async (name: string, scope: 'ingest' | 'read', sourcePrefixes: string[]) =>
      (await issueKey(db, { name, scopes: [scope], sourcePrefixes, expiresAt: null })).token
    return { ingest: await issue('model', 'ingest', ['model']), read: await issue('model-reader', 'read', []) }
  })
}
