import { type Static, type TProperties, type TSchema, Type } from '@sinclair/typebox'
import envSchema from 'env-schema'
import { checkDatabaseUrl, DatabaseUrlError, schemeHint } from './lib/database-url.ts'
import { hideUser } from './lib/hide-user.ts'
import { nearest } from './lib/nearest.ts'
import { parseOrigins } from './lib/origins.ts'
import { nearSizes, parseSize } from './lib/size.ts'

const MiB = 1024 * 1024

/** Marks the settings that loadConfig reads with lib/size.ts. */
const SIZE_TITLE = 'at least 1024 bytes: 67108864, 64MiB or 1.5GB (units: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)'

const PREFIX_TITLE =
  'a path like /ingest, of letters, digits and any of - . _ ~, without a slash at its end; not one of Sluice, such as /v1'

const bytes = (value: number | undefined, description: string) =>
  Type.Integer({ ...(value === undefined ? {} : { default: value }), minimum: 1024, title: SIZE_TITLE, description })

const otlpUrl = (description: string) =>
  Type.Optional(Type.String({ title: 'a URL like http://collector:4318', pattern: '^https?://.+', description }))

const choice = <T extends string>(values: readonly T[], options: Record<string, unknown>) =>
  Type.Unsafe<T>(
    Type.Union(
      values.map((value) => Type.Literal(value)),
      options,
    ),
  )

/** OpenTelemetry's own names, defaults and meanings (specification, environment variables). */
const TRACES = {
  OTEL_EXPORTER_OTLP_ENDPOINT: otlpUrl('Collector to send traces to, with OTLP over HTTP. Without it: no traces'),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: otlpUrl(
    'Full URL for traces, with its path; overrides OTEL_EXPORTER_OTLP_ENDPOINT',
  ),
  OTEL_EXPORTER_OTLP_PROTOCOL: Type.Optional(
    choice(['http/protobuf'], {
      title: 'http/protobuf',
      description: 'gRPC is not supported: use port 4318, not 4317',
    }),
  ),
  OTEL_TRACES_EXPORTER: choice(['otlp', 'none'], { default: 'otlp', description: 'none: no traces' }),
  OTEL_SDK_DISABLED: choice(['true', 'false'], { default: 'false', description: 'true: no traces' }),
  OTEL_TRACES_SAMPLER: choice(
    [
      'always_on',
      'always_off',
      'traceidratio',
      'parentbased_always_on',
      'parentbased_always_off',
      'parentbased_traceidratio',
    ],
    { default: 'parentbased_always_on', description: 'Which requests are traced; parentbased: the client decides' },
  ),
  OTEL_TRACES_SAMPLER_ARG: Type.Number({
    default: 1,
    minimum: 0,
    maximum: 1,
    description: 'For traceidratio: the share of requests that are traced',
  }),
  OTEL_BSP_SCHEDULE_DELAY: Type.Integer({
    default: 5000,
    minimum: 1,
    description: 'Maximum time in milliseconds before spans are sent',
  }),
  OTEL_BSP_MAX_QUEUE_SIZE: Type.Integer({
    default: 2048,
    minimum: 1,
    description: 'Maximum number of spans that wait to be sent. Further ones are dropped',
  }),
  OTEL_BSP_MAX_EXPORT_BATCH_SIZE: Type.Integer({
    default: 512,
    minimum: 1,
    description: 'Maximum number of spans in one request to the collector',
  }),
  OTEL_BSP_EXPORT_TIMEOUT: Type.Integer({
    default: 30_000,
    minimum: 1,
    description: 'Timeout in milliseconds of one request to the collector',
  }),
}

/** All settings. `npx node scripts/config-table.ts` makes the table in src/README.md from these descriptions. */
export const ConfigSchema = Type.Object({
  DATABASE_URL: Type.Optional(
    Type.String({
      title: 'a URL like postgres://user:password@host:5432/database',
      pattern: '^postgres(ql)?://.+',
      description: 'PostgreSQL 18 to use. Without it: an embedded one',
    }),
  ),
  DATABASE_READ_URL: Type.Optional(
    Type.String({
      title: 'a URL like postgres://user:password@host:5432/database',
      pattern: '^postgres(ql)?://.+',
      description: 'A standby for lists and exports, which may be a moment behind. Without it: DATABASE_URL',
    }),
  ),
  CONNECT_WAIT_SECONDS: Type.Integer({
    default: 0,
    minimum: 0,
    maximum: 3600,
    description:
      'How long `migrate`, `bootstrap`, `epoch begin`, `maintain` and `backups` try to reach the database or the object storage before they fail',
  }),
  HOST: Type.String({
    default: '127.0.0.1',
    minLength: 1,
    description: 'Address to listen on; localhost means 127.0.0.1 and ::1',
  }),
  PORT: Type.Integer({
    default: 3000,
    minimum: 0,
    maximum: 65535,
    description: 'Port to listen on; 0 means any free port',
  }),
  METRICS_PORT: Type.Integer({
    default: 9464,
    minimum: 0,
    maximum: 65535,
    description: 'Port of /metrics, on the same address; 0 means any free port',
  }),
  PATH_PREFIX: Type.Optional(
    Type.String({
      title: PREFIX_TITLE,
      // A path of Sluice would be ambiguous: without the prefix, every path must stay as it is.
      pattern: '^(?!/(?:v1|docs|healthz|readyz|openapi\\.json)(?:/|$))(?:/(?!\\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+$',
      description:
        'Path below which clients reach Sluice through a proxy, which may remove it or pass it on. All URLs in responses begin with it',
    }),
  ),
  CORS_ORIGINS: Type.Optional(
    Type.String({
      title: 'origins like https://app.example.com, separated by commas, or *',
      description: 'Web pages from these origins may call the API. Without it: none',
    }),
  ),
  LOG_LEVEL: Type.Union(
    ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'].map((level) => Type.Literal(level)),
    { default: 'info', description: 'Lowest level that is logged' },
  ),
  SLUICE_BOOTSTRAP_KEY: Type.Optional(
    Type.String({
      title: '16 to 256 letters, digits or any of . _ ~ + / = -',
      pattern: '^[A-Za-z0-9._~+/=-]{16,256}$',
      description: 'A key with all scopes, which `serve --migrate` creates if it does not exist',
    }),
  ),
  MAX_RECORD_BYTES: bytes(1 * MiB, 'Maximum size of a record'),
  MAX_BATCH_BYTES: bytes(16 * MiB, 'Maximum size of a request body'),
  MAX_BATCH_RECORDS: Type.Integer({
    default: 10_000,
    minimum: 1,
    maximum: 500_000,
    description: 'Maximum number of records in a body',
  }),
  MAX_PAGE_BYTES: bytes(16 * MiB, 'Bytes of payload after which a page of a list ends early'),
  FLUSH_MAX_ROWS: Type.Integer({
    default: 2000,
    minimum: 1,
    maximum: 500_000,
    description: 'Rows after which no more requests join a flush',
  }),
  FLUSH_MAX_BYTES: bytes(4 * MiB, 'Size after which no more requests join a flush'),
  FLUSH_CONCURRENCY: Type.Integer({
    default: 2,
    minimum: 1,
    maximum: 64,
    description: 'Maximum number of flushes at the same time. Each uses one connection',
  }),
  QUEUE_MAX_BYTES: bytes(
    64 * MiB,
    'Memory for requests that are being read or wait for their commit, and for responses that their clients have not read; as much again for requests that are not started yet. Above it: 503',
  ),
  UNREAD_MAX_BYTES: bytes(
    64 * MiB,
    'Memory for pages and exports that are being made or that their readers have not read yet, with their compressors. Above it: 503',
  ),
  SHED_INGEST_SECONDS: Type.Number({
    default: 1,
    minimum: 0.01,
    maximum: 60,
    description: 'Mean event-loop delay above which ingestion gets 503, measured over two seconds',
  }),
  SHED_READ_SECONDS: Type.Number({
    default: 2,
    minimum: 0.01,
    maximum: 60,
    description: 'The same for reading; at least SHED_INGEST_SECONDS',
  }),
  KEY_RECORDS_PER_SECOND: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 1_000_000,
      description:
        'Records per second and instance for keys without a rate of their own. Above it: 429. Without it: no limit',
    }),
  ),
  STORAGE_BUDGET: Type.Optional(
    bytes(
      undefined,
      'Maximum disk space for the database and its write-ahead log. At 80 %: a warning; at 90 %: 507. Without it: no limit',
    ),
  ),
  STALL_SECONDS: Type.Integer({
    default: 30,
    minimum: 1,
    // Less than Fastify's keepAliveTimeout, so that the two can be told apart: see plugins/timeouts.ts.
    maximum: 60,
    description: 'How long a sender or a reader may stall, and headers may take, before the connection is closed',
  }),
  OUTAGE_HOLD_SECONDS: Type.Number({
    default: 20,
    minimum: 0,
    maximum: 3600,
    description: 'How long a request waits for an unavailable database before it gets 503',
  }),
  READ_CONNECTIONS: Type.Integer({
    default: 5,
    minimum: 1,
    maximum: 100,
    description:
      'Connections for lists and exports; one API key can use about half of them. Single records have their own',
  }),
  FEED_MAX_READERS: Type.Integer({
    default: 2000,
    minimum: 1,
    maximum: 100_000,
    description: 'Maximum number of live readers of the feed; one API key can have half of them',
  }),
  ROLLUP_MAX_SERIES: Type.Integer({
    default: 1000,
    minimum: 0,
    maximum: 100_000,
    description:
      'How many types, sources, and pairs of the two, together, `/v1/stats` counts separately; further ones are counted together. 0: nothing is counted',
  }),
  READ_TIMEOUT_SECONDS: Type.Number({
    default: 30,
    minimum: 1,
    maximum: 3600,
    description: 'How long the database may take for one read',
  }),
  RETENTION_POLICIES: Type.Optional(
    Type.String({
      title: 'the path of a file',
      description: 'Policies of `maintain`; the option --policies overrides it',
    }),
  ),
  DRAIN_SECONDS: Type.Number({
    default: 10,
    minimum: 0,
    maximum: 600,
    description: 'How long requests are still served after SIGTERM, while /readyz responds with 503',
  }),
  CLOSE_SECONDS: Type.Number({
    default: 30,
    minimum: 0,
    maximum: 600,
    description: 'After DRAIN_SECONDS, how long requests in flight may still take before their connections are closed',
  }),
  BACKUP_BUCKET_URL: Type.Optional(
    Type.String({
      title: "a URL like https://s3.example.com/bucket/folder, without any of ! ' ( ) *",
      // s3mini does not escape these characters when it signs the listing of a folder.
      pattern: "^https?://[^/?#]+/(?!.*%2[1789Aa])[^?#!'()*]+$",
      description: 'S3-compatible storage where `sluice backups` keeps copies',
    }),
  ),
  AWS_ACCESS_KEY_ID: Type.Optional(Type.String({ minLength: 1, description: "Id of the storage's access key" })),
  AWS_SECRET_ACCESS_KEY: Type.Optional(
    Type.String({ minLength: 1, description: "Secret of the storage's access key" }),
  ),
  AWS_REGION: Type.Optional(
    Type.String({
      minLength: 1,
      description: 'Region of the storage. Without it: the region in its URL, else us-east-1',
    }),
  ),
  ...TRACES,
})

export type Config = Static<typeof ConfigSchema>

/** Settings whose value must not appear in a message. */
const SECRET: ReadonlySet<string> = new Set([
  'DATABASE_URL',
  'DATABASE_READ_URL',
  'SLUICE_BOOTSTRAP_KEY',
  'AWS_SECRET_ACCESS_KEY',
  'OTEL_EXPORTER_OTLP_ENDPOINT',
  'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT',
])

/** Whether traces are on. */
export const isTraced = (config: Config): boolean =>
  config.OTEL_SDK_DISABLED === 'false' &&
  config.OTEL_TRACES_EXPORTER === 'otlp' &&
  (config.OTEL_EXPORTER_OTLP_ENDPOINT ?? config.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) !== undefined

/** A setting is invalid. The message has one line for each: its name, its value, what is allowed. */
export class ConfigError extends Error {
  override name = 'ConfigError'
}

/**
 * Reads and checks the settings.
 * @param env names and values, as in process.env; an empty value counts as absent, which is what most shells and manifests mean
 * @throws ConfigError
 */
export function loadConfig(env: Record<string, string | undefined> = process.env): Config {
  const data: Record<string, string | number> = {}
  for (const [name, { title }] of Object.entries<TSchema>(ConfigSchema.properties)) {
    const text = env[name]
    if (text === undefined || text === '') continue
    data[name] = title === SIZE_TITLE ? (parseSize(text) ?? text) : text
  }
  let config: Config
  try {
    config = envSchema<Config>({ schema: ConfigSchema, data, env: false })
  } catch (error) {
    const failures = (error as { errors?: { instancePath: string }[] }).errors
    if (failures === undefined) throw error
    const names = new Set(failures.map(({ instancePath }) => instancePath.slice(1)))
    throw new ConfigError([...names].map((name) => complaint(name, env[name])).join('\n'))
  }
  for (const name of ['DATABASE_URL', 'DATABASE_READ_URL'] as const) {
    try {
      if (config[name] !== undefined) config[name] = checkDatabaseUrl(config[name], env)
    } catch (error) {
      if (!(error instanceof DatabaseUrlError)) throw error
      throw new ConfigError(`${name} ${error.message}`)
    }
  }
  try {
    if (config.CORS_ORIGINS !== undefined) parseOrigins(config.CORS_ORIGINS)
  } catch (error) {
    throw new ConfigError(`CORS_ORIGINS ${(error as Error).message}`)
  }
  if (config.QUEUE_MAX_BYTES < config.MAX_BATCH_BYTES) {
    throw new ConfigError(
      `QUEUE_MAX_BYTES is ${config.QUEUE_MAX_BYTES}, but must be at least MAX_BATCH_BYTES, ${config.MAX_BATCH_BYTES}: the largest body must fit`,
    )
  }
  if (config.SHED_READ_SECONDS < config.SHED_INGEST_SECONDS) {
    throw new ConfigError(
      `SHED_READ_SECONDS is ${config.SHED_READ_SECONDS}, but must be at least SHED_INGEST_SECONDS, ${config.SHED_INGEST_SECONDS}: ingestion is shed first`,
    )
  }
  return config
}

function complaint(name: string, value = ''): string {
  const schema = (ConfigSchema.properties as TProperties)[name] as TSchema
  const held = SECRET.has(name) ? 'a value that is not shown here' : JSON.stringify(hideUser(value))
  const hint = name.startsWith('DATABASE_') ? schemeHint(value) : SECRET.has(name) ? quotesHint(value) : undefined
  return `${name} is ${held}, but must be ${allowed(schema)}${hint === undefined ? instead(schema, value) : `. ${hint}`}`
}

/** Docker, for one, takes the quotes in a file of settings as a part of the value. */
const quotesHint = (value: string) => (/^["']/.test(value) ? 'Remove the quotes around it' : undefined)

/** The allowed value that was probably meant, as the end of a sentence. */
function instead(schema: TSchema, value: string): string {
  const meant = near(schema, value)
  return meant === undefined ? '' : `: use ${meant}`
}

function near({ anyOf, title, type, minimum, maximum }: TSchema, value: string): string | undefined {
  if (anyOf !== undefined)
    return nearest(
      value,
      anyOf.map((choice: TSchema) => choice.const),
    )
  if (title === SIZE_TITLE) {
    const sizes = nearSizes(value).filter((size) => (parseSize(size) ?? 0) >= minimum)
    return sizes.length === 0 ? undefined : sizes.join(' or ')
  }
  // Other programs take a unit.
  const [, number] = /^\s*["']?(\d+(?:\.\d+)?)\s*(?:s|sec|secs|seconds?)?["']?\s*$/i.exec(value) ?? []
  const fits = Number(number) >= minimum && Number(number) <= (maximum ?? Number.POSITIVE_INFINITY)
  return fits && (type === 'number' || Number.isInteger(Number(number))) ? number : undefined
}

/** The values that a setting allows, in words. */
export function allowed(schema: TSchema): string {
  if (schema.anyOf !== undefined) return `one of ${schema.anyOf.map((s: TSchema) => s.const).join(', ')}`
  if (schema.title !== undefined) return schema.title
  if (schema.type === 'string') return 'text that is not empty'
  const kind = schema.type === 'integer' ? 'a whole number' : 'a number'
  return schema.maximum === undefined
    ? `${kind} of at least ${schema.minimum}`
    : `${kind} from ${schema.minimum} to ${schema.maximum}`
}
