import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { type RollupState, selectRollupState } from '../data/rollup-state.ts'
import { addUnstored, countRecords, type Entry, type RollupPart } from '../data/rollups.ts'
import { repeat } from '../lib/repeat.ts'
import { settlesWithin } from '../lib/settles-within.ts'
import { classifyFailure } from '../postgres/sqlstate.ts'
import { BatchSize } from '../stats/batch-size.ts'
import { UnstoredCounts } from '../stats/unstored-counts.ts'
import { registerGauge } from './metrics/register.ts'

/** Between two rounds. New records are in the statistics after about this time. */
const PAUSE_MS = 1_000
/** How often an instance that stores nothing looks whether others have left something to count. */
const IDLE_MS = 5_000
/** After a failure. */
const RETRY_MS = 5_000
/** How long a server that closes waits for each of its last two steps. */
const CLOSE_MS = 2_000

/** Keeps the rollups up to date. Every instance tries, and one at a time counts. Nothing else in the server waits for it. */
export default fp(
  async function rollups(app: FastifyInstance) {
    const { ROLLUP_MAX_SERIES: maxSeries } = app.config
    if (maxSeries === 0) {
      app.decorate('rollupState', () => undefined)
      return
    }
    const unstored = new UnstoredCounts()
    app.recordTotals.countUnstored(unstored)
    const sizes: Record<RollupPart, BatchSize> = { live: new BatchSize(), backfill: new BatchSize() }
    let state: RollupState | undefined
    let readAt = Number.NEGATIVE_INFINITY
    /** How many records this instance had stored at the last round. */
    let stored = 0
    let isStarted = false
    let isStopping = false
    let failingSince: number | undefined
    let running = Promise.resolve()
    app.decorate('rollupState', () => {
      if (state === undefined && failingSince === undefined) return undefined
      const failing = failingSince === undefined ? 0 : (performance.now() - failingSince) / 1000
      return { backfill: state?.backfill, lagSeconds: (state?.lagSeconds ?? 0) + failing }
    })
    registerGauge(app.metrics, {
      name: 'sluice_rollup_lag_seconds',
      help: 'Age of the oldest record that the rollups do not contain yet; 0 if there is none. It grows while they cannot be updated.',
      read: () => app.rollupState()?.lagSeconds ?? [],
    })

    let stop = () => {}
    app.addHook('onReady', async () => {
      stop = repeat(() => {
        const round = runRound()
        running = round.then(() => {})
        return round
      })
    })
    app.addHook('preClose', async () => {
      isStopping = true
      stop()
    })
    app.addHook('onClose', async () => {
      const isIdle = await settlesWithin(running, CLOSE_MS)
      if (isIdle && isStarted) await settlesWithin(finish(), CLOSE_MS)
    })

    /** @returns the length of the pause after it */
    async function runRound(): Promise<number> {
      // Also while it drains.
      isStarted ||= app.readiness.ready
      if (!isStarted || !mayHaveWork()) return PAUSE_MS
      try {
        state = await selectRollupState(app.db.read)
        const isCounted = state.lagSeconds === 0 || (await countAll())
        if (isCounted) await addEntries(unstored.take())
        if (state.backfill !== undefined) await backfill(state.backfill)
        readAt = performance.now()
        if (failingSince !== undefined) app.log.info('the rollups are updated again')
        failingSince = undefined
        return PAUSE_MS
      } catch (err) {
        if (failingSince === undefined)
          app.log.warn({ err }, 'the rollups could not be updated: statistics lag behind until it works again')
        failingSince ??= performance.now()
        return RETRY_MS
      }
    }

    function mayHaveWork(): boolean {
      const before = stored
      stored = app.recordTotals.counts.created
      const isCounted = state?.lagSeconds === 0 && state.backfill === undefined && unstored.isEmpty
      return !isCounted || stored !== before || performance.now() - readAt >= IDLE_MS
    }

    const count = (part: RollupPart) =>
      sizes[part].run((limit) => countRecords(app.db.read, { part, limit, maxSeries }))

    /** @returns whether all new records are counted; false if another instance counts */
    async function countAll(): Promise<boolean> {
      let batch = await count('live')
      while (batch.isFull && !isStopping) batch = await count('live')
      return batch.counted !== undefined
    }

    /** After the records: a duplicate has a series only once its record is counted. */
    async function addEntries(entries: Entry[]): Promise<void> {
      if (entries.length === 0) return
      try {
        await addUnstored(app.db.read, entries)
      } catch (error) {
        const { kind, written } = classifyFailure(error)
        // If they may be stored, they are not added again.
        if (written === 'no')
          unstored.restore(entries.map((entry) => (kind === 'row' ? { ...entry, source: '', type: '' } : entry)))
        throw error
      }
    }

    async function backfill({ records, estimate }: NonNullable<RollupState['backfill']>): Promise<void> {
      const { counted } = await count('backfill')
      if (counted === undefined) return
      if (records === 0) app.log.info({ estimate }, 'counting the records from before the rollups, in the background')
      state = await selectRollupState(app.db.read)
      if (state.backfill === undefined) app.log.info('the records from before the rollups are counted')
    }

    /** What was not stored would be lost with this process. It need not wait for an instance that counts. */
    async function finish(): Promise<void> {
      try {
        await countAll()
        await addEntries(unstored.take())
      } catch (err) {
        app.log.warn({ err }, 'the last counts of records that were not stored are lost')
      }
    }
  },
  { name: 'rollups', dependencies: ['metrics', 'database', 'readiness'] },
)

declare module 'fastify' {
  interface FastifyInstance {
    /** How far the rollups are, as of the last look; undefined: they are off, or this is not known yet. */
    rollupState(): Pick<RollupState, 'lagSeconds' | 'backfill'> | undefined
  }
}
