import { setTimeout as sleep } from 'node:timers/promises'
import { miscounted } from '../counted.ts'
import { KINDS } from '../feed-kinds.ts'
import type { Postgres } from '../postgres.ts'
import { Client, isLost } from './client.ts'
import type { Shown } from './contents.ts'
import { LANES } from './faults.ts'
import { FeedFollower } from './feed-follower.ts'
import { History } from './history.ts'
import { ListFollower } from './list-follower.ts'
import type { Plan } from './plan.ts'
import { Random } from './random.ts'
import { Reading } from './reading.ts'
import { makeRequest } from './requests.ts'
import { type Instance, openScene, type Scene } from './scene.ts'
import { sendOnce, sendRequests } from './sender.ts'
import { BEGINNINGS, writeSlowly, writeSlowlyOnce } from './slow-writer.ts'
import { prepareTable, readRows } from './table.ts'
import { judgeRound } from './verdict.ts'

interface RoundOptions {
  postgres: Postgres
  /** For logs. */
  folder: string
  seed: number
  /** How long clients send and faults happen. */
  seconds: number
  /** A key that may ingest the source prefix `model`, and one that may read everything. */
  keys: { ingest: string; read: string }
  /** Ends the round early, with an error. */
  stop: AbortSignal
}

const SENDERS = 16
const READERS = 2
const SLOW_WRITERS = 2
/** Added to the hold window, because each chunk of a line stream has its own hold window, and because the machine may be busy. */
const GRACE_MS = 60_000
/** How long a follower may see nothing new after the end of all faults: open transactions hold the feed back. */
const HEALED_MS = 90_000
const AT_ONCE_MS = 30_000
const ONE_RECORD: Plan = {
  ...{ format: 'object', shape: 'alone', isEvent: false, strict: false, minimal: false, encoding: undefined },
  ...{ idempotencyKey: undefined, traceparent: undefined, records: 1, badShare: 0, pieces: 1, pauseMs: 0 },
}

/** Runs a round on an empty table, and checks it. @returns the history with the findings */
export async function playRound({ postgres, folder, seed, seconds, keys, stop }: RoundOptions): Promise<History> {
  const random = new Random(seed)
  await prepareTable(postgres)
  const holdSeconds = random.pick([1, 3, 8])
  const scene = await openScene({ postgres, folder, random: random.fork(), holdSeconds, stop })
  const history = new History()
  const patienceMs = holdSeconds * 1000 + GRACE_MS
  let number = 0
  const nextNumber = () => ++number
  const slowly = { history, url: postgres.superUrl }
  const port = (own: Random) => () => own.pick(scene.instances).cutter.port
  const client = (own = random.fork()) => ({ history, random: own, port: port(own), patienceMs })
  const feed = followFeed()
  try {
    const list = await play()
    await scene.heal()
    await passSlowWriters(list)
    await Promise.all(scene.instances.map(checkInstance))
    const rows = await readRows(postgres)
    const followers = [list, ...feed]
    await Promise.all(followers.map((follower) => follower.finish(rows, HEALED_MS)))
    judgeRound(history, rows)
    for (const follower of followers) follower.judge(rows)
    await judgeCounted()
  } finally {
    await Promise.all(feed.map((follower) => follower.stop()))
    await scene.close()
  }
  return history

  /** Retention deletes counted records, and a crash of PostgreSQL can bring them back. So only rounds without it have a known count. */
  async function judgeCounted(): Promise<void> {
    if (history.mayHaveRemoved(0, Number.POSITIVE_INFINITY)) return
    const difference = await miscounted(postgres.superUrl, undefined)
    if (difference !== 0)
      history.complain(
        'The statistics must count each stored record once.',
        difference > 0 ? `${difference} too many` : `${-difference} too few`,
      )
  }

  /** Until the end of the round, also through the restarts of checkInstance. */
  function followFeed(): FeedFollower[] {
    // Another generator, so that the followers do not affect which requests and faults a seed leads to.
    const own = new Random(seed + 1)
    const known = new Map<string, Shown>()
    return KINDS.map((kind) => new FeedFollower({ ...client(own.fork()), kind, key: keys.read, known }))
  }

  async function play(): Promise<ListFollower> {
    const over = new AbortController()
    let fresh = false
    const senders = Array.from({ length: SENDERS }, () =>
      sendRequests({ ...client(), key: keys.ingest, nextNumber, isFresh: () => fresh }, over.signal),
    )
    const reading = () => new Reading({ ...client(), key: keys.read })
    const readers = Array.from({ length: READERS }, () => reading().run(over.signal))
    const slow = Array.from({ length: SLOW_WRITERS }, () =>
      writeSlowly({ ...slowly, random: random.fork(), nextNumber }, over.signal),
    )
    const list = new ListFollower(history, reading, random.fork())
    const following = list.follow(over.signal)
    const lanes = Object.values(LANES)
      .filter(() => random.chance(0.5))
      .map((faults) => breakThings(scene, history, faults, random.fork(), over.signal))
    // At the end, half of the rounds send many new records, so that Sluice uses COPY. Faults continue.
    try {
      await sleep(seconds * 700, undefined, { signal: stop })
      fresh = random.chance(0.5)
      await sleep(seconds * 300, undefined, { signal: stop })
    } finally {
      over.abort()
    }
    await Promise.all([...senders, ...readers, ...slow, following, ...lanes])
    return list
  }

  /** Runs slow writers again after the faults, because during faults it can happen that nothing is stored or read meanwhile. */
  async function passSlowWriters(list: ListFollower): Promise<void> {
    for (const beginning of BEGINNINGS)
      await writeSlowlyOnce(slowly, nextNumber(), beginning, 'COMMIT', async () => {
        await storeOne(random.pick(scene.instances))
        // If the transaction has no position yet, its records come after this one. The list should then have both on the same page.
        if (beginning !== 'only its time') await list.readToEnd()
      })
  }

  /** Checks that a new record is stored and that the instance ends after SIGTERM. */
  async function checkInstance(instance: Instance): Promise<void> {
    await storeOne(instance)
    const code = await instance.replace()
    if (code !== 0) history.complain('An instance must exit with 0 after SIGTERM.', `it ended with ${code}`)
  }

  /** Stores a new record, and retries after 503: a pause of the machine can exceed the short hold window. */
  async function storeOne({ cutter }: Instance): Promise<void> {
    const begin = history.now()
    const port = () => cutter.port
    for (;;) {
      const request = makeRequest(random.fork(), { number: nextNumber(), plan: ONE_RECORD, fresh: true })
      const client = new Client()
      const response = await sendOnce(client, request, { history, random, key: keys.ingest, port, patienceMs })
      client.close()
      const tookMs = history.now() - begin
      const status = isLost(response) ? undefined : response.status
      if (status === 503 && tookMs < AT_ONCE_MS) continue
      if (status === 201 && tookMs < AT_ONCE_MS) return
      const what = `${request.exchange.response}, ${tookMs} ms`
      return void history.complain('Without faults, a new record must be stored at once.', what)
    }
  }
}

async function breakThings(
  scene: Scene,
  history: History,
  faults: (typeof LANES)[string],
  random: Random,
  stop: AbortSignal,
) {
  for (;;) {
    await sleep(random.int(100, 4000))
    if (stop.aborted) return
    const fault = random.pick(faults)
    // A fault may fail, because PostgreSQL may be unavailable due to another one.
    await history.during(fault.name, () => fault.apply(scene, random, history, stop)).catch(() => {})
  }
}
