import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type FeedHolder, selectFeedHolder } from '../data/held-feed.ts'
import { repeat } from '../lib/repeat.ts'
import { registerGauge } from './metrics/register.ts'

const CHECK_MS = 2_000

/** A flush takes less than a second. A transaction that is open for longer than this is not an ordinary write. */
const REPORT_SECONDS = 5

/** Says why the feed waits: in the log, and as a metric. Every instance reports the same transaction. */
export default fp(
  async function heldFeed(app: FastifyInstance) {
    let holder: { of: FeedHolder; firstSeen: number; seconds: number; isReported: boolean } | undefined
    let isKnown = false
    app.decorate('feedHeldSeconds', () => (isKnown ? (holder?.seconds ?? 0) : undefined))
    registerGauge(app.metrics, {
      name: 'sluice_feed_held_seconds',
      help: 'Age of the oldest transaction that could still add records; the feed shows nothing after it. 0 if there is none.',
      read: () => app.feedHeldSeconds() ?? [],
    })

    async function check(): Promise<number> {
      try {
        follow(await selectFeedHolder(app.db.keys))
        isKnown = true
      } catch (err) {
        isKnown = false
        app.log.debug({ err }, 'the check for a transaction that holds the feed back failed')
      }
      return CHECK_MS
    }

    function follow(found: FeedHolder | undefined): void {
      if (holder !== undefined && holder.of.xid !== found?.xid) {
        if (holder.isReported) reportEnd(holder.of, holder.seconds)
        holder = undefined
      }
      if (found === undefined) return
      const { firstSeen, isReported } = holder ?? { firstSeen: performance.now(), isReported: false }
      // If the role may not see when the transaction began, it is at least as old as this.
      const seconds = found.seconds ?? (performance.now() - firstSeen) / 1000
      const isLong = seconds >= REPORT_SECONDS
      if (isLong && !isReported) reportBegin(found, seconds)
      holder = { of: found, firstSeen, seconds, isReported: isReported || isLong }
    }

    function reportBegin({ pid, gid, database, user, application, state }: FeedHolder, age: number): void {
      const seconds = Math.round(age)
      app.log.warn({ pid, gid, database, user, application, state, seconds }, 'a transaction holds the feed back')
    }

    function reportEnd({ pid, gid }: FeedHolder, age: number): void {
      app.log.info({ pid, gid, seconds: Math.round(age) }, 'the transaction that held the feed back has ended')
    }

    let stop = () => {}
    app.addHook('onReady', async () => {
      stop = repeat(check)
    })
    app.addHook('preClose', async () => stop())
  },
  { name: 'held-feed', dependencies: ['metrics', 'database'] },
)

declare module 'fastify' {
  interface FastifyInstance {
    /** Age of the oldest transaction that could still add records, as of the last look; 0: there is none; undefined: not known. */
    feedHeldSeconds(): number | undefined
  }
}
