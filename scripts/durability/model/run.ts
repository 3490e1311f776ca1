import { withConnection } from '../../../src/commands/database.ts'
import { issueKey } from '../../../src/operate/issue-key.ts'
import type { Postgres } from '../postgres.ts'
import type { Attempt, History } from './history.ts'
import { Random } from './random.ts'
import { describe } from './report.ts'
import { playRound } from './round.ts'

export interface ModelOptions {
  postgres: Postgres
  /** For logs. */
  folder: string
  /** Decides all that the model decides. What processes, disks and networks do meanwhile it does not decide. */
  seed: number
  /** New rounds begin for so long. */
  seconds: number
  /** How long clients send in a round. */
  roundSeconds: number
  stop: AbortSignal
  /** Told how it goes, a line at a time. */
  onLine: (line: string) => void
}

/** What a whole run came to. */
export interface ModelResult {
  rounds: number
  requests: number
  records: number
  /** How many records were told what. */
  told: Record<string, number>
  faults: number
  /** How many statements of writers ran into a timeout that was made small, by the fault that did it. */
  timeouts: Record<string, number>
  /** One text each. */
  findings: string[]
}

/**
 * Of the server. An asynchronous commit is written after wal_writer_delay, or when enough has come together
 * (PostgreSQL manual, 19.5.1 and 28.4). As late as possible: until then kill -9 loses it, and the loss is found.
 */
export const SERVER_SETTINGS = { wal_writer_delay: '10s', wal_writer_flush_after: '1GB' }

/** Findings of one rule that are shown of a round; the others are likely to have the same cause. */
const EXAMPLES = 3

/**
 * Plays rounds of random requests and faults, and compares all answers with what is stored. The seeds of the rounds follow from
 * `seed`, which is that of the first.
 * @throws when a round cannot be played to its end, such as when an instance does not start
 */
export async function runModel(options: ModelOptions): Promise<ModelResult> {
  const { postgres, folder, seed, seconds, roundSeconds, stop, onLine } = options
  const random = new Random(seed)
  const keys = await issueKeys(postgres)
  const result: ModelResult = { rounds: 0, requests: 0, records: 0, told: {}, faults: 0, timeouts: {}, findings: [] }
  onLine(`seed ${seed}`)
  for (const end = performance.now() + seconds * 1000; performance.now() < end || result.rounds === 0; ) {
    // So each round can be played again by its own seed.
    const own = result.rounds === 0 ? seed : random.int(0, 2 ** 32 - 1)
    const history = await playRound({ postgres, folder, seed: own, seconds: roundSeconds, keys, stop })
    const attempts = history.exchanges.flatMap((exchange) => exchange.attempts)
    result.rounds++
    result.requests += history.exchanges.length
    result.records += attempts.length
    result.faults += history.faults.length
    for (const { told } of attempts) result.told[told] = (result.told[told] ?? 0) + 1
    const { findings, timeouts } = history
    for (const { fault, hits } of timeouts) result.timeouts[fault] = (result.timeouts[fault] ?? 0) + hits
    onLine(
      `round ${result.rounds}, seed ${own}: ${history.exchanges.length} requests, ${summarize(attempts)}; ` +
        `${history.faults.length} faults; ${sum(timeouts)} statements ran into a timeout; ${findings.length} findings`,
    )
    for (const [, same] of Map.groupBy(findings, ({ rule }) => rule)) {
      for (const finding of same.slice(0, EXAMPLES)) {
        result.findings.push(
          `seed ${own}, round ${result.rounds}, ${new Date().toISOString()}: ${describe(finding, history)}`,
        )
        onLine(result.findings.at(-1) as string)
      }
      if (same.length > EXAMPLES) onLine(`… and ${same.length - EXAMPLES} more of this rule`)
    }
  }
  for (const [fault, hits] of Object.entries(result.timeouts)) {
    if (hits > 0) continue
    result.findings.push(`${fault}: no statement ran into it`)
    onLine(result.findings.at(-1) as string)
  }
  return result
}

const sum = (timeouts: History['timeouts']): number => timeouts.reduce((total, { hits }) => total + hits, 0)

function summarize(attempts: Attempt[]): string {
  const counts = Map.groupBy(attempts, ({ told }) => told)
  return [...counts]
    .map(([told, list]) => `${told} ${list.length}`)
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
