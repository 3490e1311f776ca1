import { type Static, Type } from '@sinclair/typebox'

const time = (description: string) => Type.String({ format: 'date-time', description })
const timeOrNull = (description: string) =>
  Type.Union([Type.String({ format: 'date-time' }), Type.Null()], { description })
const seconds = (description: string) => Type.Number({ description: `${description}, in seconds` })
const secondsOrNull = (description: string) => Type.Union([Type.Number(), Type.Null()], { description })
const orNull = <T extends ReturnType<typeof Type.Object | typeof Type.Array>>(schema: T, description: string) =>
  Type.Union([schema, Type.Null()], { description })

const LevelSchema = Type.Union([Type.Literal('ok'), Type.Literal('warning'), Type.Literal('critical')])

const FindingSchema = Type.Object({
  level: Type.Union([Type.Literal('warning'), Type.Literal('critical')], {
    description: 'critical: senders or data are affected now; warning: they will be, or may be',
  }),
  code: Type.String({ description: 'What it is about, for programs' }),
  detail: Type.String({ description: 'What is wrong, and what to do' }),
})

const InstanceSchema = Type.Object({
  name: Type.String({ description: 'Its host and port; in a cluster, the host is its pod' }),
  version: Type.String({ description: '`older`: a version before this document' }),
  connectedAt: time('When it connected to the database, the last time'),
})

const OwnInstanceSchema = Type.Object(
  {
    name: InstanceSchema.properties.name,
    version: Type.String(),
    startedAt: time('When it started'),
    ready: Type.Boolean({ description: 'Whether `/readyz` responds with 200' }),
    readiness: Type.String({ description: 'Why it is not ready' }),
    overloaded: Type.Boolean({ description: 'Whether requests get 503 because of the event-loop delay' }),
    waitingRequests: Type.Integer({ description: 'Requests that wait for their commit' }),
    oldestWaitingSeconds: seconds('How long the oldest of them has waited'),
    queueBytes: Type.Number({ description: 'Memory of requests that are read or wait' }),
    queueMaxBytes: Type.Number({ description: 'QUEUE_MAX_BYTES' }),
  },
  { description: 'The instance that responds' },
)

const DatabaseSchema = Type.Object({
  available: Type.Boolean(),
  outageSeconds: seconds('For how long requests have waited for it; 0: it is available, or nothing is sent'),
  keysAgeSeconds: seconds('How long ago the API keys were read from it, which happens every two seconds'),
  unsafeSettings: orNull(
    Type.Array(Type.String()),
    'Settings of PostgreSQL that break a guarantee; null: not known yet',
  ),
})

const StorageSchema = Type.Object({
  usedBytes: Type.Union([Type.Number(), Type.Null()], {
    description:
      'Disk space that the database uses; from 80 % of the budget on, without what it will use again. null: not measured yet',
  }),
  budgetBytes: Type.Number({ description: 'STORAGE_BUDGET. At 90 %, requests that store records get 507' }),
  full: Type.Boolean({ description: 'Whether requests that store records get 507' }),
  fullAt: timeOrNull('When 90 % will be used, if growth goes on; null: not within a year, or it is too early to say'),
  growth: Type.Union([Type.Literal('day'), Type.Literal('week'), Type.Null()], {
    description: 'What `fullAt` assumes: growth as on the last `day`, or as on a typical day of the last `week`',
  }),
})

const StatisticsSchema = Type.Object({
  lagSeconds: secondsOrNull('Age of the oldest record that is not counted yet, in seconds; null: not known yet'),
  backfill: Type.Union([Type.Number(), Type.Null()], {
    description: 'The share of older records that are counted, from 0 to 1; null: all',
  }),
})

const JobSchema = Type.Object({
  job: Type.String({ description: 'backup, backup_upload, restore_drill or retention' }),
  succeeded: Type.Boolean({ description: 'Whether the last run succeeded' }),
  finishedAt: time('When the last run ended'),
  succeededAt: timeOrNull('When a run last succeeded; null: never'),
})

const ConsumerSchema = Type.Object({
  name: Type.String(),
  records: Type.Integer({ description: 'How many records it has not read; above 10,000 an estimate' }),
  seconds: seconds('Age of the oldest of them; 0: none'),
  overtakenAt: timeOrNull('When retention last deleted records that it had not read; null: never'),
})

export const StatusSchema = Type.Object(
  {
    health: LevelSchema,
    findings: Type.Array(FindingSchema, { description: 'Why it is not ok, the worst first' }),
    at: time('By the clock of the instance that responds'),
    instance: OwnInstanceSchema,
    instances: orNull(Type.Array(InstanceSchema), 'All that are connected to the database; null: not known'),
    database: DatabaseSchema,
    storage: orNull(StorageSchema, 'null: there is no STORAGE_BUDGET'),
    feed: Type.Object({
      heldSeconds: secondsOrNull(
        'Age of the oldest transaction that could still add records, in seconds; the feed shows nothing after it. 0: none; null: not known',
      ),
    }),
    statistics: orNull(StatisticsSchema, 'null: they are off'),
    consumers: orNull(Type.Array(ConsumerSchema), 'The 100 that are furthest behind; null: not known'),
    consumerCount: Type.Union([Type.Integer(), Type.Null()], { description: 'How many consumers there are' }),
    jobs: orNull(Type.Array(JobSchema), 'The last run of each job that has run; null: not known'),
  },
  { $id: 'Status' },
)

export type StatusDocument = Static<typeof StatusSchema>
export type Finding = Static<typeof FindingSchema>
