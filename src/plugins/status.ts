import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { ConsumerWithLag } from '../data/consumers.ts'
import { type Instance, selectInstances } from '../data/instances.ts'
import { type JobState, selectJobs } from '../data/jobs.ts'
import { shareOf } from '../data/rollup-state.ts'
import {
  addStorageSample,
  hasStorageSample,
  type StorageSample,
  selectStorageHistory,
} from '../data/storage-history.ts'
import { toRfc3339 } from '../lib/pg-time.ts'
import { repeat } from '../lib/repeat.ts'
import { VERSION } from '../lib/version.ts'
import { FULL, measureNeeded } from '../retention/storage-budget.ts'
import type { StatusDocument } from '../schemas/status.ts'
import { assess, LIMITS } from '../status/assess.ts'
import { forecast } from '../status/forecast.ts'
import { latestOf } from './metrics/latest.ts'

/** How often an instance looks whether the history, which has one sample per hour, needs another. */
const SAMPLE_MS = 600_000
/** Until the database has been reached. */
const WAIT_MS = 5_000

/** Several consoles ask every few seconds. What jobs did, and how large the database was, stays true. */
const AGES = { pauseMs: 2_000, maxAgeMs: Number.POSITIVE_INFINITY }
/** Which instances there are does not. */
const MAX_INSTANCES_AGE_MS = 10_000
const HISTORY_DAYS = 8

const MAX_CONSUMERS = 100

/** What this instance knows of its health. It waits for the database at most half a second, and then says what is not known. */
export default fp(
  async function status(app: FastifyInstance) {
    const startedAt = new Date().toISOString()
    // One statement after the other: they share a connection with others.
    const latest = latestOf(async () => {
      const at = performance.now()
      const instances = await selectInstances(app.db.read)
      const jobs = await selectJobs(app.db.read)
      const samples = await selectStorageHistory(app.db.read, HISTORY_DAYS)
      return { at, instances, jobs, samples }
    }, AGES)

    app.decorate('readStatus', async (): Promise<StatusDocument> => {
      const [known, consumers] = await Promise.all([latest(), app.consumerLags()])
      const isCurrent = known !== undefined && performance.now() - known.at < MAX_INSTANCES_AGE_MS
      const facts = {
        at: new Date().toISOString(),
        instance: { name: app.instanceName, version: VERSION, startedAt, ...loadOf(app) },
        instances: isCurrent ? known.instances.map(toInstance) : null,
        database: databaseOf(app),
        storage: storageOf(app, known?.samples ?? []),
        feed: { heldSeconds: app.feedHeldSeconds() ?? null },
        statistics: statisticsOf(app),
        consumers: consumers?.map(toConsumer).toSorted((one, other) => other.seconds - one.seconds) ?? null,
        jobs: known?.jobs.map(toJob) ?? null,
      }
      const findings = assess(facts)
      return {
        health: findings[0]?.level ?? 'ok',
        findings,
        ...facts,
        consumers: facts.consumers?.slice(0, MAX_CONSUMERS) ?? null,
        consumerCount: facts.consumers?.length ?? null,
      }
    })

    let stop = () => {}
    app.addHook('onReady', async () => {
      if (app.storage.budgetBytes !== undefined) stop = repeat(sample)
    })
    app.addHook('preClose', async () => stop())

    let isFailing = false
    async function sample(): Promise<number> {
      if (!app.readiness.ready) return WAIT_MS
      try {
        if (!(await hasStorageSample(app.db.read)))
          await addStorageSample(app.db.read, await measureNeeded(app.db.read))
        isFailing = false
      } catch (err) {
        if (!isFailing) app.log.warn({ err }, 'the size of the database could not be added to its history')
        isFailing = true
      }
      return SAMPLE_MS
    }
  },
  {
    name: 'status',
    dependencies: [
      'database',
      'readiness',
      'settings',
      'held-feed',
      'consumers',
      'writer',
      'keys',
      'storage',
      'rollups',
    ],
  },
)

const toTime = (ms: number) => new Date(ms).toISOString()

const toInstance = ({ name, version, connectedAt }: Instance) => ({ name, version, connectedAt: toTime(connectedAt) })

const toConsumer = ({ name, records, seconds, overtaken_at }: ConsumerWithLag) => ({
  name,
  records: Math.round(records),
  seconds,
  overtakenAt: overtaken_at === null ? null : toRfc3339(overtaken_at),
})

const toJob = ({ job, succeeded, finishedAt, succeededAt }: JobState) => ({
  job,
  succeeded,
  finishedAt: toTime(finishedAt * 1000),
  succeededAt: succeededAt === null ? null : toTime(succeededAt * 1000),
})

function loadOf({ readiness, shedding, writer, ingestMemory }: FastifyInstance) {
  return {
    ready: readiness.ready,
    readiness: readiness.reason,
    overloaded: shedding.state !== 'none',
    waitingRequests: writer.status.waiting,
    oldestWaitingSeconds: writer.status.oldestMs / 1000,
    queueBytes: ingestMemory.used,
    queueMaxBytes: ingestMemory.max,
  }
}

function databaseOf(app: FastifyInstance): StatusDocument['database'] {
  const [outageSeconds, keysAgeSeconds] = [app.outageSeconds(), app.keysAgeSeconds()]
  return {
    available: outageSeconds === 0 && keysAgeSeconds <= LIMITS.keysSeconds,
    outageSeconds,
    keysAgeSeconds,
    unsafeSettings: app.unsafeSettings()?.slice() ?? null,
  }
}

function storageOf({ storage }: FastifyInstance, samples: readonly StorageSample[]): StatusDocument['storage'] {
  const { budgetBytes, usedBytes, state } = storage
  if (budgetBytes === undefined) return null
  const found = forecast(samples, budgetBytes * FULL)
  return {
    usedBytes: usedBytes ?? null,
    budgetBytes,
    full: state === 'full',
    fullAt: found === undefined ? null : toTime(found.fullAt),
    growth: found?.as ?? null,
  }
}

function statisticsOf(app: FastifyInstance): StatusDocument['statistics'] {
  if (app.config.ROLLUP_MAX_SERIES === 0) return null
  const state = app.rollupState()
  return { lagSeconds: state?.lagSeconds ?? null, backfill: shareOf(state?.backfill) }
}

declare module 'fastify' {
  interface FastifyInstance {
    readStatus(): Promise<StatusDocument>
  }
}
