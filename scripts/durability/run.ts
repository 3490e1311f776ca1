import { randomUUID } from 'node:crypto'
import { check, type Verdict } from './checker.ts'
import type { Fault } from './fault.ts'
import { type Followers, startFollowers } from './followers.ts'
import type { Postgres } from './postgres.ts'
import { type Reader, startReader } from './reader.ts'
import { openStage } from './stage.ts'
import type { Stored } from './stored.ts'
import { CLIENTS, startWriters, type Writers } from './writers.ts'

export interface Result extends Verdict {
  name: string
  title: string
  /** The longest time that a request waited for its response, and the maximum that the hold window allows. */
  slowest_ms: number
  allowed_ms: number
  /** The longest time from the first try of a request to its final response. */
  longest_ms: number
  /** The longest time from the end of a fault to the next acknowledgement. Absent if nothing was unavailable. */
  back_ms?: number
  note?: string
  /** Since the start of the fault: rows that PostgreSQL copied, COPYs to interrupt, and interrupted COPYs: see proxy.ts. */
  copied: number
  copies_aimed: number
  copies_hit: number
  /** How many requests may fail, and why. Absent: none. */
  errors_allowed?: number
  errors_because?: string
  /** Connections may be refused, because no instance of the API runs for a while. */
  unreachable: boolean
  /** The smallest number of times that a follower of the feed continued from its own offset. */
  reconnects: number
  /** How many records too many the statistics count; negative: too few. */
  miscounted: number
}

interface RunOptions {
  postgres: Postgres
  /** For logs. */
  folder: string
  quick: boolean
}

/** Shedding is off, because other load on the machine must not affect the result. */
const ENV = { DRAIN_SECONDS: '0', SHED_INGEST_SECONDS: '60', SHED_READ_SECONDS: '60' }
/** Requests that must be acknowledged before the fault and after it. */
const AROUND = 100
/** The default of OUTAGE_HOLD_SECONDS. */
const HOLD_SECONDS = 20
/** After its hold window, a request may wait 2 s more for the current try. The rest allows for a busy machine. */
const GRACE_MS = 10_000
/** Mean pause between two requests of a client. Short, because the machine should be busy; its speed is not measured. */
const PAUSE_MS = 10
/** The short forms run beside other tests. They have more time, and leave most of the processor to those tests. */
const QUICK_GRACE_MS = 60_000
const QUICK_PAUSE_MS = 300

/** Causes a fault under load, and compares the responses of the clients with what is stored afterwards. */
export async function runFault(fault: Fault, { postgres, folder, quick }: RunOptions): Promise<Result> {
  const env: Record<string, string> = { ...ENV, ...fault.env, ...(quick ? fault.quickEnv : {}) }
  const { proxy, servers, start, route, rows, countFault, close } = await openStage({
    postgres,
    folder,
    env,
    instances: fault.instances ?? 1,
  })
  const holdMs = Number(env.OUTAGE_HOLD_SECONDS ?? HOLD_SECONDS) * 1000
  const allowedMs = holdMs + (quick ? QUICK_GRACE_MS : GRACE_MS)
  const source = `durability/${fault.name}/${randomUUID()}`
  let writers: Writers | undefined
  let reader: Reader | undefined
  let followers: Followers | undefined
  try {
    const client = { port: route, key: postgres.key, source }
    writers = startWriters({ ...client, patienceMs: allowedMs, pauseMs: quick ? QUICK_PAUSE_MS : PAUSE_MS })
    reader = startReader(client)
    followers = startFollowers({ ...client, quick })
    const { acknowledged } = writers
    let backMs: number | undefined
    const resumed = async () => {
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
      reader,
      startServer: start,
      resumed,
    }
    const before = { ...proxy.copies }
    const begin = performance.now()
    const note = await fault.apply(stage, quick)
    await acknowledged(AROUND)
    // Including these, because a busy machine needs longer than a short hold window to get going again.
    const brokenMs = performance.now() - begin
    await writers.stop()
    const table = await readToTheEnd(reader, followers, () => rows(source))
    const miscounted = await countFault(source)
    return {
      name: fault.name,
      title: quick ? fault.quickTitle : fault.title,
      ...check({ responses: writers.responses, rows: table, observers: [reader, ...followers.observers] }),
      miscounted,
      copied: proxy.copies.rows - before.rows,
      copies_aimed: proxy.copies.aimed - before.aimed,
      copies_hit: proxy.copies.hit - before.hit,
      slowest_ms: Math.round(writers.slowestMs()),
      allowed_ms: allowedMs,
      longest_ms: Math.round(writers.longestMs()),
      ...(backMs === undefined ? {} : { back_ms: Math.round(backMs) }),
      ...(note === undefined ? {} : { note }),
      ...(fault.errors === undefined
        ? {}
        : {
            errors_allowed: fault.errors.most({ clients: CLIENTS, quick, holdMs, brokenMs }),
            errors_because: fault.errors.because,
          }),
      unreachable: fault.unreachable === true,
      reconnects: followers.reconnects(),
    }
  } finally {
    // Closing the stage stops the servers, which ends the requests that still wait.
    const stopped = Promise.all([writers?.stop(), reader?.stop(), followers?.stop()])
    await close()
    await stopped
  }
}

/** Waits until all readers have seen the whole table, or get no further. @returns the table, in the order of the feed */
async function readToTheEnd(
  reader: Reader,
  followers: Followers,
  readTable: () => Promise<Stored[]>,
): Promise<Stored[]> {
  let table = await readTable()
  // Repeats, because a flush can still be committed after its clients have given up.
  for (let count = -1; count !== table.length; table = await readTable()) {
    count = table.length
    await Promise.all([reader.caughtUp(table.map(({ id }) => id)), followers.caughtUp(table.at(-1)?.cursor ?? '')])
  }
  await Promise.all([reader.stop(), followers.stop()])
  return table
}

/** The reasons why a run has failed. Empty if it passed. */
export function complaintsOf(result: Result): string[] {
  const { sent, missing, twice, altered, wrong, shown_twice, never_shown, misread, slowest_ms, allowed_ms } = result
  const { copied, copies_aimed, copies_hit, reconnects, miscounted } = result
  const { errors, errors_allowed = 0, errors_because = 'none is allowed', unsent, unreachable } = result
  return [
    ...(sent === 0 ? ['nothing was sent'] : []),
    ...(copied === 0 ? ['no row was copied'] : []),
    ...(copies_hit < copies_aimed ? [`${copies_hit} COPYs were interrupted instead of ${copies_aimed}`] : []),
    ...(missing > 0 ? [`${missing} acknowledged records are missing`] : []),
    ...(twice > 0 ? [`${twice} records are stored twice`] : []),
    ...(altered > 0 ? [`${altered} records are not stored as they were sent`] : []),
    ...(wrong > 0 ? [`${wrong} responses are wrong`] : []),
    ...(shown_twice > 0 ? [`${shown_twice} records were shown to a reader twice`] : []),
    ...(never_shown > 0 ? [`${never_shown} records were never shown to a reader`] : []),
    ...(misread > 0 ? [`${misread} reads were wrong: altered, out of order, not stored or refused`] : []),
    ...(miscounted > 0 ? [`the statistics count ${miscounted} records too many`] : []),
    ...(miscounted < 0 ? [`the statistics count ${-miscounted} records too few`] : []),
    ...(reconnects < 1 ? ['a follower of the feed did not reconnect'] : []),
    ...(slowest_ms > allowed_ms
      ? [`a request got no response in ${allowed_ms} ms, which is more than the hold window`]
      : []),
    ...(errors > errors_allowed
      ? [`${errors} requests failed, but at most ${errors_allowed} may fail (${errors_because})`]
      : []),
    ...(unsent > 0 && !unreachable ? [`${unsent} connections were refused`] : []),
  ]
}
