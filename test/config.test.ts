import t from 'tap'
import { ConfigError, ConfigSchema, loadConfig } from '../src/config.ts'

/** The message of the ConfigError that these variables bring about. */
function complaintOf(env: Record<string, string>): string {
  try {
    loadConfig(env)
  } catch (error) {
    if (error instanceof ConfigError) return error.message
    throw error
  }
  return 'no complaint'
}

t.test('without any variable every setting has a default, but for those whose absence means something', async (t) => {
  const config = loadConfig({})
  const without = Object.keys(ConfigSchema.properties).filter((name) => !(name in config))
  t.same(without.sort(), [
    'AWS_ACCESS_KEY_ID',
    'AWS_REGION',
    'AWS_SECRET_ACCESS_KEY',
    'BACKUP_BUCKET_URL',
    'DATABASE_READ_URL',
    'DATABASE_URL',
    'KEY_RECORDS_PER_SECOND',
    'OTEL_EXPORTER_OTLP_ENDPOINT',
    'OTEL_EXPORTER_OTLP_PROTOCOL',
    'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT',
    'RETENTION_POLICIES',
    'SLUICE_BOOTSTRAP_KEY',
    'STORAGE_BUDGET',
  ])
  t.match(config, { PORT: 3000, HOST: '127.0.0.1', LOG_LEVEL: 'info', MAX_BATCH_BYTES: 16 * 1024 * 1024 })
})

t.test(
  'variables are read as what they mean: numbers as numbers, empty ones as absent, others not at all',
  async (t) => {
    const config = loadConfig({ PORT: '8080', OUTAGE_HOLD_SECONDS: '0.5', LOG_LEVEL: '', HOME: '/root' })
    t.equal(config.PORT, 8080)
    t.equal(config.OUTAGE_HOLD_SECONDS, 0.5)
    t.equal(config.LOG_LEVEL, 'info')
    t.notOk('HOME' in config)
  },
)

t.test('a wrong setting is named, with what it held and what is allowed', async (t) => {
  for (const [name, value, allowed] of [
    ['PORT', 'abc', 'a whole number from 0 to 65535'],
    ['PORT', '65536', 'a whole number from 0 to 65535'],
    ['PORT', '-1', 'a whole number from 0 to 65535'],
    ['LOG_LEVEL', 'loud', 'one of trace, debug, info, warn, error, fatal, silent'],
    ['MAX_RECORD_BYTES', '1023', 'a whole number of at least 1024'],
    ['MAX_RECORD_BYTES', '1MiB', 'a whole number of at least 1024'],
    ['MAX_BATCH_BYTES', '1024.5', 'a whole number of at least 1024'],
    ['MAX_BATCH_RECORDS', '0', 'a whole number from 1 to 500000'],
    ['MAX_PAGE_BYTES', 'x', 'a whole number of at least 1024'],
    ['FLUSH_MAX_ROWS', '500001', 'a whole number from 1 to 500000'],
    ['FLUSH_MAX_BYTES', 'x', 'a whole number of at least 1024'],
    ['FLUSH_CONCURRENCY', '65', 'a whole number from 1 to 64'],
    ['QUEUE_MAX_BYTES', '12', 'a whole number of at least 1024'],
    ['SHED_INGEST_SECONDS', '0', 'a number from 0.01 to 60'],
    ['SHED_READ_SECONDS', '61', 'a number from 0.01 to 60'],
    ['KEY_RECORDS_PER_SECOND', '0', 'a whole number from 1 to 1000000'],
    ['STORAGE_BUDGET', '1Gi', 'a whole number of at least 1024'],
    ['STALL_SECONDS', '61', 'a whole number from 1 to 60'],
    ['OUTAGE_HOLD_SECONDS', '-0.1', 'a number from 0 to 3600'],
    ['READ_CONNECTIONS', '0', 'a whole number from 1 to 100'],
    ['READ_TIMEOUT_SECONDS', '0.5', 'a number from 1 to 3600'],
    ['DRAIN_SECONDS', '601', 'a number from 0 to 600'],
  ] as const) {
    t.equal(complaintOf({ [name]: value }), `${name} is "${value}", but must be ${allowed}`)
  }
})

t.test('a secret that is wrong is not repeated', async (t) => {
  for (const [name, value] of [
    ['DATABASE_URL', 'mysql://root:hush@db/x'],
    ['DATABASE_READ_URL', 'postgres://root:hush@db:99999/x'],
    ['SLUICE_BOOTSTRAP_KEY', 'hush'],
    ['SLUICE_BOOTSTRAP_KEY', `${'hush'.repeat(8)}\n`],
  ] as const) {
    const message = complaintOf({ [name]: value })
    t.match(message, new RegExp(`^${name} is a value that is not shown here, but must be `), name)
    t.notMatch(message, 'hush', name)
  }
})

t.test('several wrong settings are named at once, a line each', async (t) => {
  const lines = complaintOf({ PORT: 'x', LOG_LEVEL: 'y', DATABASE_URL: 'hush', FLUSH_MAX_ROWS: '10' }).split('\n')
  t.same(lines.map((line) => line.split(' ')[0]).sort(), ['DATABASE_URL', 'LOG_LEVEL', 'PORT'])
})

// The default queue of 64 MiB took no body of a batch that was allowed to be larger, unless it came alone.
t.test('a queue that the largest body does not fit into is refused', async (t) => {
  const name = 'QUEUE_MAX_BYTES is 67108864, but must be at least MAX_BATCH_BYTES, 67108865: the largest body must fit'
  t.equal(complaintOf({ MAX_BATCH_BYTES: String(64 * 1024 * 1024 + 1) }), name)
  t.match(
    complaintOf({ QUEUE_MAX_BYTES: '2048', MAX_BATCH_BYTES: '4096' }),
    /^QUEUE_MAX_BYTES is 2048, .* MAX_BATCH_BYTES, 4096/,
  )
  t.equal(loadConfig({ QUEUE_MAX_BYTES: '4096', MAX_BATCH_BYTES: '4096' }).QUEUE_MAX_BYTES, 4096)
})

t.test('reading that would be shed before ingestion is refused', async (t) => {
  t.equal(
    complaintOf({ SHED_READ_SECONDS: '0.9' }),
    'SHED_READ_SECONDS is 0.9, but must be at least SHED_INGEST_SECONDS, 1: ingestion is shed first',
  )
  t.equal(loadConfig({ SHED_READ_SECONDS: '1' }).SHED_READ_SECONDS, 1)
})
