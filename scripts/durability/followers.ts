import { hash, randomInt } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect, KINDS, type Kind, MAX_LIMIT, PATIENCE_MS, START } from './feed-kinds.ts'
import type { Observer } from './observer.ts'
import { parseExactly, recogniseShown, type Stored } from './stored.ts'

interface FollowersOptions {
  /** The port for the next connection. */
  port(): number
  key: string
  source: string
  /** Two kinds, chosen at random, instead of all: the tests run many faults. */
  quick: boolean
}

/** Readers of GET /v1/feed, one of a kind. Each one reconnects at random moments, and continues from its own offset. */
export interface Followers {
  observers: readonly Observer[]
  /** The smallest number of times that one of them continued from its own offset in a new response. */
  reconnects(): number
  /** Resolves when all of them have passed this offset and have reconnected, or when none of them gets further for a minute. */
  caughtUp(offset: string): Promise<void>
  stop(): Promise<void>
}

/** Until it has reconnected once, because some faults are short. */
const FIRST_PATIENCE_MS = 1_000
/** Mean pauses after the last page and after a failure. Short ones would take the processor from what is tested. */
const PAUSE_MS = 100
const RETRY_MS = 250
const STALLED_MS = 60_000

export function startFollowers({ port, key, source, quick }: FollowersOptions): Followers {
  const kinds = quick ? KINDS.toSorted(() => Math.random() - 0.5).slice(0, 2) : KINDS
  const over = new AbortController()
  const progress = new EventEmitter()
  /** The records of all readers, by a hash of their text. */
  const known = new Map<string, Stored>()
  const followers = kinds.map((kind) => ({
    kind,
    name: kind.name,
    shown: [],
    wrong: [],
    offset: START,
    reconnects: 0,
  }))
  const running = Promise.all(followers.map(run))
  return {
    observers: followers,
    reconnects: () => Math.min(...followers.map(({ reconnects }) => reconnects)),
    caughtUp,
    stop,
  }

  async function run(follower: Observer & { kind: Kind; offset: string; reconnects: number }): Promise<void> {
    for (let turn = 0; !over.signal.aborted; turn++) {
      const maxMs = follower.reconnects === 0 ? FIRST_PATIENCE_MS : (PATIENCE_MS[turn % PATIENCE_MS.length] as number)
      const signal = AbortSignal.any([over.signal, AbortSignal.timeout(randomInt(maxMs))])
      let pauseMs = 0
      try {
        const limit = randomInt(1, MAX_LIMIT)
        const response = await connect(follower.kind, {
          port: port(),
          key,
          source,
          offset: follower.offset,
          limit,
          signal,
        })
        await refuseOthers(response, follower.wrong)
        if (follower.offset !== START && follower.reconnects++ === 0) progress.emit('moved')
        for await (const { records, next } of follower.kind.read(response)) {
          follower.shown.push(...records.map(recogniseText))
          const moved = next !== follower.offset
          follower.offset = next
          if (moved) progress.emit('moved')
        }
        if (response.headers.has('stream-up-to-date')) pauseMs = PAUSE_MS
      } catch (error) {
        if (!signal.aborted) pauseMs = RETRY_MS
        // During an outage, a reader gets errors, and tries again. A record that is not JSON is never right.
        if (error instanceof SyntaxError) follower.wrong.push(error.message)
      }
      await sleep(pauseMs * 2 * Math.random())
    }
  }

  function recogniseText(text: string): Stored {
    const key = hash('sha1', text)
    const stored = known.get(key) ?? recogniseShown(parseExactly(text) as Parameters<typeof recogniseShown>[0])
    known.set(key, stored)
    return stored
  }

  /** @param wrong gets a response that no outage explains. @throws unless it is a success */
  async function refuseOthers(response: Response, wrong: string[]): Promise<void> {
    if (response.ok) return
    const text = await response.text()
    if (response.status !== 503) wrong.push(`${response.status}: ${text}`)
    throw new Error(text)
  }

  async function caughtUp(offset: string): Promise<void> {
    // Offsets sort as text.
    while (followers.some((one) => one.offset < offset || one.reconnects === 0)) {
      const moved = once(progress, 'moved', { signal: AbortSignal.timeout(STALLED_MS) })
      if ((await moved.catch(() => undefined)) === undefined) return
    }
  }

  async function stop(): Promise<void> {
    over.abort()
    await running
  }
}
