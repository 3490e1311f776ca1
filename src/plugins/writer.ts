import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { createRecordStore } from '../data/record-store.ts'
import { MemoryBudget } from '../lib/memory-budget.ts'
import { Writer } from '../writer/writer.ts'
import { measureWriter, registerQueueMetrics } from './metrics/writer.ts'

/** The one writer of this process. It is registered after the database, so it drains and closes before it. */
export default fp(
  async function writer(app: FastifyInstance) {
    const { config } = app
    const events = measureWriter(app.metrics)
    const instance = new Writer(createRecordStore(app.db.write), {
      maxRows: config.FLUSH_MAX_ROWS,
      maxBytes: config.FLUSH_MAX_BYTES,
      concurrency: config.FLUSH_CONCURRENCY,
      holdMs: config.OUTAGE_HOLD_SECONDS * 1000,
      ...(app.traces === undefined ? {} : { traces: app.traces }),
      onFlush: (flush) => {
        events.onFlush(flush)
        app.feed.noteCommit()
      },
      onRetry: events.onRetry,
      onOutage: (err) => {
        events.onOutage(err)
        if (err === undefined) app.log.info('the database is available again: writing continues')
        else app.log.warn({ err }, 'the database is unavailable: requests wait')
      },
    })
    app.decorate('writer', instance)
    app.decorate('outageSeconds', events.outageSeconds)
    const refusal =
      'The requests that wait for the database use all the memory that they may use. Send the request again later.'
    app.decorate('ingestMemory', new MemoryBudget(config.QUEUE_MAX_BYTES, refusal))
    registerQueueMetrics(app.metrics, instance, app.ingestMemory)
    app.addHook('onClose', () => instance.close())
  },
  { name: 'writer', dependencies: ['metrics', 'database', 'feed'] },
)

declare module 'fastify' {
  interface FastifyInstance {
    writer: Writer
    /** For how long requests have waited because the database is unavailable; 0 if it is available. */
    outageSeconds(): number
    ingestMemory: MemoryBudget
  }
}
