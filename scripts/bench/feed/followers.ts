import { setTimeout as sleep } from 'node:timers/promises'
import { numberOf } from '../order-events.ts'
import { now } from './clock.ts'
import { Follower } from './follower.ts'

export type Task =
  /** Replies when all of them follow. */
  | { kind: 'open'; port: number; key: string; followers: Following[]; timed?: true }
  /** Closes the followers once each has received this many records, or after a few seconds. */
  | { kind: 'close'; records: number }

interface Following {
  /** Filters of the feed, as a query. */
  query: string
  /** Follows, but then reads nothing. */
  stalled?: boolean
}

/** What timed followers received: one entry for each record that one of them received. */
export interface Arrivals {
  numbers: Uint32Array
  /** When the event with the record was complete, by the clock of clock.ts. */
  at: Float64Array
}

/** How many connections are opened at the same time: more would not fit into the queue of the server. */
const OPENED_TOGETHER = 50
/** How long a follower may take for the last records. */
const LAST_RECORDS_MS = 10_000
const CHECK_MS = 20

let followers: Follower[] = []
let numbers: number[] = []
let at: number[] = []

process.on('message', async (task: Task) => process.send?.(await perform(task)))
process.once('disconnect', () => process.exit())
process.send?.('ready')

async function perform(task: Task): Promise<Arrivals | null> {
  if (task.kind === 'close') return close(task.records)
  const { port, key, timed } = task
  const left = [...task.followers]
  while (left.length > 0) {
    await Promise.all(
      left.splice(0, OPENED_TOGETHER).map(async ({ query, stalled = false }) => {
        const follower = new Follower({ port, key, query, onRecords: timed ? note : () => {} })
        followers.push(follower)
        await follower.open()
        if (stalled) follower.stall()
      }),
    )
  }
  return null
}

async function close(records: number): Promise<Arrivals> {
  const deadline = now() + LAST_RECORDS_MS
  while (numbers.length < records * followers.length && now() < deadline) await sleep(CHECK_MS)
  for (const follower of followers) follower.close()
  const arrivals = { numbers: Uint32Array.from(numbers), at: Float64Array.from(at) }
  followers = []
  numbers = []
  at = []
  return arrivals
}

function note(event: string): void {
  const arrived = now()
  for (const [, id] of event.matchAll(/,"id":"([0-9a-f]{8})/g)) {
    numbers.push(numberOf(id as string))
    at.push(arrived)
  }
}
