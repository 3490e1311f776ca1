import { readFileSync } from 'node:fs'
import t from 'tap'
import { parse } from 'yaml'
import { assess, type Facts } from '../../src/status/assess.ts'

const AT = '2026-01-31T12:00:00.000Z'
const ago = (seconds: number) => new Date(Date.parse(AT) - seconds * 1000).toISOString()
const DAY = 86_400

const healthy: Facts = {
  at: AT,
  instance: {
    name: 'one',
    version: '1.0.0',
    startedAt: ago(DAY),
    ready: true,
    readiness: 'ready',
    overloaded: false,
    waitingRequests: 3,
    oldestWaitingSeconds: 0.01,
    queueBytes: 10,
    queueMaxBytes: 100,
  },
  instances: [{ name: 'one', version: '1.0.0', connectedAt: ago(DAY) }],
  database: { available: true, outageSeconds: 0, keysAgeSeconds: 1, unsafeSettings: [] },
  storage: { usedBytes: 10, budgetBytes: 100, full: false, fullAt: null, growth: null },
  feed: { heldSeconds: 0 },
  statistics: { lagSeconds: 0.5, backfill: null },
  consumers: [{ name: 'shipper', records: 5, seconds: 2, overtakenAt: null }],
  jobs: ['backup', 'backup_upload', 'restore_drill', 'retention'].map((job) => ({
    job,
    succeeded: true,
    finishedAt: ago(3600),
    succeededAt: ago(3600),
  })),
}

const instance = (changed: Partial<Facts['instance']>): Partial<Facts> => ({
  instance: { ...healthy.instance, ...changed },
})
const consumer = (changed: Partial<(Facts['consumers'] & object)[0]>): Partial<Facts> => ({
  consumers: [{ name: 'shipper', records: 5, seconds: 2, overtakenAt: null, ...changed }],
})
const storage = (usedBytes: number, changed: Partial<Facts['storage'] & object> = {}): Partial<Facts> => ({
  storage: { usedBytes, budgetBytes: 100, full: false, fullAt: null, growth: null, ...changed },
})
const job = (name: string, succeeded: boolean, succeededAt: string | null): Partial<Facts> => ({
  jobs: [{ job: name, succeeded, finishedAt: ago(60), succeededAt }],
})

const database = (changed: Partial<Facts['database']>): Partial<Facts> => ({
  database: { ...healthy.database, ...changed },
})

const find = (changed: Partial<Facts>) => assess({ ...healthy, ...changed })

t.test('a healthy instance has no findings, also without budget, statistics, consumers and jobs', async (t) => {
  t.same(find({}), [])
  t.same(find({ storage: null, statistics: null, consumers: [], jobs: [] }), [])
})

interface Alert {
  alert: string
  expr: string
  labels: { severity: string }
}

const { spec } = parse(readFileSync(new URL('../../k8s/components/monitoring/alerts.yaml', import.meta.url), 'utf8'), {
  merge: true,
}) as { spec: { groups: { rules: Alert[] }[] } }

function alertOf(name: string) {
  const rule = spec.groups.flatMap(({ rules }) => rules).find(({ alert }) => alert === name)
  if (rule === undefined) throw new Error(`there is no alert ${name}`)
  const [, limit = '', hours] = /[<>] (\d+(?:\.\d+)?)(?:( \* 3600)?)\s*$/.exec(rule.expr.trim()) ?? []
  return { severity: rule.labels.severity, limit: Number(limit) * (hours === undefined ? 1 : 3600) }
}

/** What each finding is called, and the facts with a value. */
const LIKE_ALERTS: Record<string, [code: string, facts: (value: number) => Partial<Facts>]> = {
  SluiceOutage: ['keys_old', (keysAgeSeconds) => database({ keysAgeSeconds })],
  SluiceQueueNearlyFull: ['queue_nearly_full', (share) => instance({ queueBytes: share * 100 })],
  SluiceRecordsWait: ['records_wait', (oldestWaitingSeconds) => instance({ oldestWaitingSeconds })],
  SluiceFeedHeld: ['feed_held', (heldSeconds) => ({ feed: { heldSeconds } })],
  SluiceStatsBehind: ['statistics_behind', (lagSeconds) => ({ statistics: { lagSeconds, backfill: null } })],
  SluiceConsumerBehind: ['consumer_behind', (seconds) => consumer({ seconds })],
  SluiceStorageNearlySpent: ['storage_nearly_full', (share) => storage(share * 100)],
  SluiceBackupTooOld: ['backup_too_old', (age) => job('backup', true, ago(age))],
  SluiceRestoreDrillTooOld: ['restore_drill_too_old', (age) => job('restore_drill', true, ago(age))],
  SluiceRetentionTooOld: ['retention_too_old', (age) => job('retention', true, ago(age))],
}

for (const [name, [code, facts]] of Object.entries(LIKE_ALERTS)) {
  t.test(`the limit and the severity are those of the alert ${name}`, async (t) => {
    const { limit, severity } = alertOf(name)
    t.ok(limit > 0)
    t.same(find(facts(limit * 0.99)), [], 'below it')
    const [found, ...others] = find(facts(limit * 1.01))
    t.match(found, { code, level: severity }, 'above it')
    t.same(others, [])
  })
}

const AS_BAD: Record<string, [code: string, facts: Partial<Facts>]> = {
  SluiceOutage: ['database_unavailable', database({ available: false, outageSeconds: 90 })],
  SluiceUnsafeSettings: ['unsafe_setting', database({ unsafeSettings: ['fsync'] })],
  SluiceNotReady: ['not_ready', instance({ ready: false, readiness: 'starting: it lacks a migration' })],
  SluiceStorageSpent: ['storage_full', storage(60, { full: true })],
  SluiceConsumerOvertaken: ['consumer_overtaken', consumer({ overtakenAt: ago(23 * 3600) })],
  SluiceBackupFailed: ['backup_failed', job('backup', false, ago(60))],
  SluiceRestoreDrillFailed: ['restore_drill_failed', job('restore_drill', false, ago(60))],
  SluiceRetentionFailed: ['retention_failed', job('retention', false, null)],
}

t.test('what has no limit is as bad as its alert says', async (t) => {
  for (const [name, [code, facts]] of Object.entries(AS_BAD)) {
    const found = find(facts).find((one) => one.code === code)
    t.equal(found?.level, alertOf(name).severity, name)
  }
  t.same(find(consumer({ overtakenAt: ago(25 * 3600) })), [], 'a day later, retention has run again')
})

/** Alerts about what a single document cannot say. */
const ELSEWHERE = [
  // No instance would respond.
  'SluiceDown',
  // Rates over minutes. They are in /metrics.
  'SluiceErrors',
  'SluiceFlushesSlow',
  // `overloaded` is its consequence.
  'SluiceEventLoopSlow',
  // Kubernetes and CloudNativePG know these.
  'SluiceJobsUnwatched',
  'SluiceBaseBackupTooOld',
]

t.test('each alert has a finding, or a reason why not', async (t) => {
  const names = spec.groups.flatMap(({ rules }) => rules.flatMap(({ alert }) => alert ?? []))
  t.same(new Set(names), new Set([...Object.keys(LIKE_ALERTS), ...Object.keys(AS_BAD), ...ELSEWHERE]))
})

t.test('a job that never succeeded is as bad as one whose success is too old', async (t) => {
  const found = find(job('backup', false, null))
  t.same(
    found.map(({ code, level }) => [code, level]),
    [
      ['backup_too_old', alertOf('SluiceBackupTooOld').severity],
      ['backup_failed', 'warning'],
    ],
  )
  t.match(found[0]?.detail, /^No backup has succeeded yet\./)
})

t.test('what is not known is a warning, but not while a server starts, and not during an outage', async (t) => {
  const unknown: Partial<Facts> = {
    instances: null,
    consumers: null,
    jobs: null,
    feed: { heldSeconds: null },
    ...database({ unsafeSettings: null }),
  }
  t.match(find(unknown), [
    { level: 'warning', code: 'not_known', detail: /: instances, settings, feed, consumers, jobs\./ },
  ])
  t.same(find({ ...unknown, ...instance({ startedAt: ago(5) }) }), [])
  const codes = find({ ...unknown, ...database({ available: false, outageSeconds: 20 }) }).map(({ code }) => code)
  t.same(codes, ['database_unavailable'])
})

t.test('an instance that refuses requests because it is overloaded is not ok', async (t) => {
  t.match(find(instance({ overloaded: true })), [{ level: 'critical', code: 'overloaded' }])
})

t.test('many consumers are one finding, which names some', async (t) => {
  const consumers = ['a', 'b', 'c', 'd', 'e'].map((name) => ({ name, records: 5, seconds: 7200, overtakenAt: ago(60) }))
  const found = find({ consumers })
  t.same(
    found.map(({ code }) => code),
    ['consumer_overtaken', 'consumer_behind'],
  )
  for (const { detail } of found) t.match(detail, /the consumers a, b, c and 2 more\./)
})

t.test('a forecast within a week is a warning', async (t) => {
  const inDays = (days: number) => find(storage(50, { fullAt: ago(-days * DAY) }))
  t.same(inDays(8), [])
  t.match(inDays(6.5), [{ level: 'warning', code: 'storage_full_soon', detail: /^In 6 days/ }])
})

t.test('the worst comes first, and each says what to do', async (t) => {
  const all = find({
    ...instance({ oldestWaitingSeconds: 60 }),
    ...storage(95, { full: true }),
    ...job('restore_drill', false, null),
    ...consumer({ seconds: 7200 }),
    ...database({ outageSeconds: 90 }),
  })
  t.same(
    all.map(({ level }) => level),
    ['critical', 'critical', 'critical', 'warning', 'warning', 'warning'],
  )
  for (const { detail } of all) t.match(detail, /^[A-Z0-9].*\. .*\.$/, detail)
})
