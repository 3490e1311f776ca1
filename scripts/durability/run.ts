import { randomUUID } from 'node:crypto'
import { check, type Verdict } from './checker.ts'
import type { Fault } from './fault.ts'
import type { Postgres } from './postgres.ts'
import { startReader } from './reader.ts'
import { openStage } from './stage.ts'
import { startWriters, type Writers } from './writers.ts'

export interface Result extends Verdict {
  name: string
  title: string
  /** The longest that one request waited for its answer, and what the hold window allows. */
  slowest_ms: number
  allowed_ms: number
  /** The longest that a client waited until its records were stored, or refused. */
  longest_ms: number
  /** From the moment when all was back to the next acknowledgement, the longest; absent where nothing was away. */
  back_ms?: number
  note?: string
  /** Were errors part of it? */
  errorsExpected: boolean
}

export interface RunOptions {
  postgres: Postgres
  /** For logs. */
  folder: string
  quick: boolean
}

const CLIENTS = 24
/** Requests that are acknowledged before the fault, and after it. */
const AROUND = 100
/** OUTAGE_HOLD_SECONDS where a fault does not say otherwise: the default. */
const HOLD_SECONDS = 20
/** No event loop lags that much: a machine that is busy is not among the faults. */
const UNSHED = { SHED_INGEST_SECONDS: '60', SHED_READ_SECONDS: '60' }
/** After its window a request may wait 2 s more for the try that is under way. The rest is for a machine that is busy. */
const GRACE_MS = 10_000
/** The short forms run beside other tests. */
const QUICK_GRACE_MS = 60_000

/** Inflicts a fault on processes under load, and compares what clients were told with what is stored then. */
export async function runFault(fault: Fault, { postgres, folder, quick }: RunOptions): Promise<Result> {
  const env: Record<string, string> = { DRAIN_SECONDS: '0', ...UNSHED, ...fault.env, ...(quick ? fault.quickEnv : {}) }
  const { proxy, servers, start, route, rows, close } = await openStage({
    postgres,
    folder,
    env,
    instances: fault.instances ?? 1,
  })
  const allowedMs = Number(env.OUTAGE_HOLD_SECONDS ?? HOLD_SECONDS) * 1000 + (quick ? QUICK_GRACE_MS : GRACE_MS)
  const source = `durability/${fault.name}/${randomUUID()}`
  let writers: Writers | undefined
  try {
    const client = { port: route, key: postgres.key, source }
    writers = startWriters({ ...client, clients: CLIENTS, patienceMs: allowedMs })
    const { acknowledged } = writers
    let backMs: number | undefined
    const back = async () => {
      const begin = performance.now()
      await acknowledged(1)
      backMs = Math.max(backMs ?? 0, performance.now() - begin)
    }
    await acknowledged(AROUND)
    const stage = {
      postgres,
      proxy,
      writers,
      servers,
      startReader: () => startReader(client),
      startServer: start,
      back,
    }
    const note = await fault.inflict(stage, quick)
    await acknowledged(AROUND)
    await writers.stop()
    return {
      name: fault.name,
      title: quick ? fault.quickTitle : fault.title,
      ...check(writers.answers, await rows(source)),
      slowest_ms: Math.round(writers.slowestMs()),
      allowed_ms: allowedMs,
      longest_ms: Math.round(writers.longestMs()),
      ...(backMs === undefined ? {} : { back_ms: Math.round(backMs) }),
      ...(note === undefined ? {} : { note }),
      errorsExpected: fault.errors === 'expected',
    }
  } finally {
    // Whoever still waits for an answer is told by the end of the servers.
    const stopped = writers?.stop()
    await close()
    await stopped
  }
}

/** Why a run does not meet the bar; nothing: it does. */
export function complaintsOf(result: Result): string[] {
  const { sent, missing, twice, wrong, errors, errorsExpected, slowest_ms, allowed_ms } = result
  return [
    ...(sent === 0 ? ['nothing was sent'] : []),
    ...(missing > 0 ? [`${missing} acknowledged records are missing`] : []),
    ...(twice > 0 ? [`${twice} records are stored twice`] : []),
    ...(wrong > 0 ? [`${wrong} records were answered wrongly`] : []),
    ...(slowest_ms > allowed_ms ? [`a request had no answer in ${allowed_ms} ms, the window and a moment`] : []),
    ...(errors > 0 && !errorsExpected ? [`${errors} requests failed`] : []),
  ]
}
