import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { notifyCommit } from '../data/notify-commit.ts'
import { hasPosition, readFeed, selectHead } from '../data/read-feed.ts'
import { toFeedRecords } from '../feed/feed-record.ts'
import { ReaderLimit } from '../feed/reader-limit.ts'
import { type FeedSource, Watcher } from '../feed/watcher.ts'
import { coalesce } from '../lib/coalesce.ts'
import { MemoryBudget } from '../lib/memory-budget.ts'
import { decodeOffset, encodeOffset, type Position } from '../lib/offset.ts'
import { Problem } from '../problems.ts'
import { registerGauge } from './metrics/register.ts'

/** Memory for the newest records, in characters. A reader that is further behind reads by query. */
const RECENT_SIZE = 8 * 1024 * 1024
/** Memory for pages that clients of streams have not taken, in bytes. Clients that wait for a record take none. */
const LIVE_MEMORY = 32 * 1024 * 1024
/** What the watcher reads at once. */
const BATCH = { limit: 1000, maxBytes: 1024 * 1024 }

/** The least time between two notifications of other instances. */
const NOTIFY_MS = 25

/** The watcher of the feed, and the limit on live readers. */
export default fp(
  async function feed(app: FastifyInstance) {
    const { config } = app
    const db = app.db.watch
    const stop = new AbortController()
    const ending = new AbortController()

    const source: FeedSource = {
      head: async () => encodeOffset(await selectHead(db, stop.signal)),
      async read(after) {
        const request = { filter: { allowedPrefixes: [] }, after: decodeOffset(after) as Position, ...BATCH }
        const { lines, next, upToDate } = await readFeed(db, request, stop.signal)
        return { records: toFeedRecords(lines), next: encodeOffset(next), upToDate }
      },
      has: (offset) => hasPosition(db, decodeOffset(offset) as Position, stop.signal),
    }
    const watcher = new Watcher(source, {
      recentSize: RECENT_SIZE,
      onError: (err) => {
        if (!stop.signal.aborted) app.log.warn({ err }, 'the feed cannot be read; its live readers wait')
      },
    })
    const readers = new ReaderLimit(config.FEED_MAX_READERS)
    const memory = new MemoryBudget(LIVE_MEMORY, 'The pages of live readers use all the memory that they may use.')
    app.commits.on('elsewhere', () => watcher.notice())
    app.commits.on('connected', () => watcher.doubt())
    // If it fails, the others notice the commit when they poll.
    const notify = coalesce(() => notifyCommit(db).catch(() => {}), NOTIFY_MS)
    const noteCommit = () => {
      watcher.notice()
      notify()
    }
    app.decorate('feed', { watcher, readers, memory, noteCommit, ending: ending.signal })
    registerGauge(app.metrics, {
      name: 'sluice_feed_readers',
      help: 'Live readers of the feed.',
      read: () => readers.used,
    })
    registerGauge(app.metrics, {
      name: 'sluice_feed_max_readers',
      help: 'Maximum number of live readers of the feed.',
      read: () => readers.max,
    })
    // Before the server waits for requests in flight: live readers would never end.
    const draining = () =>
      new Problem('draining', 'This instance is shutting down; send the request again.', {
        headers: { connection: 'close' },
      })
    app.addHook('preClose', async () => ending.abort(draining()))
    app.addHook('onClose', async () => {
      watcher.close()
      stop.abort(new Error('the server closes'))
    })
  },
  { name: 'feed', dependencies: ['metrics', 'database'] },
)

declare module 'fastify' {
  interface FastifyInstance {
    feed: {
      watcher: Watcher
      readers: ReaderLimit
      /** For pages that the clients of streams have not taken. */
      memory: MemoryBudget
      /** Call it when this instance has committed records. */
      noteCommit(): void
      /** Aborts with a Problem when live readers must end, because the server closes. */
      ending: AbortSignal
    }
  }
}
