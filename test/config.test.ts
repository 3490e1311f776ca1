import t from 'tap'
import { ConfigError, ConfigSchema, loadConfig } from '../src/config.ts'

/** The message of the ConfigError for these variables. */
function errorOf(env: Record<string, string>): string {
  try {
    loadConfig(env)
  } catch (error) {
    if (error instanceof ConfigError) return error.message
    throw error
  }
  return 'no error'
}

t.test('without environment variables, settings have their defaults or are absent', async (t) => {
  const config = loadConfig({})
  const without = Object.keys(ConfigSchema.properties).filter((name) => !(name in config))
  t.same(without.sort(), [
    'AWS_ACCESS_KEY_ID',
    'AWS_REGION',
    'AWS_SECRET_ACCESS_KEY',
    'BACKUP_BUCKET_URL',
    'CORS_ORIGINS',
    'DATABASE_READ_URL',
    'DATABASE_URL',
    'KEY_RECORDS_PER_SECOND',
    'OTEL_EXPORTER_OTLP_ENDPOINT',
    'OTEL_EXPORTER_OTLP_PROTOCOL',
    'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT',
    'PATH_PREFIX',
    'RETENTION_POLICIES',
    'SLUICE_BOOTSTRAP_KEY',
    'STORAGE_BUDGET',
  ])
  t.match(config, { PORT: 3000, HOST: '127.0.0.1', LOG_LEVEL: 'info', MAX_BATCH_BYTES: 16 * 1024 * 1024 })
})

t.test('numbers are parsed, empty variables count as absent, and unknown variables are ignored', async (t) => {
  const config = loadConfig({ PORT: '8080', OUTAGE_HOLD_SECONDS: '0.5', LOG_LEVEL: '', HOME: '/root' })
  t.equal(config.PORT, 8080)
  t.equal(config.OUTAGE_HOLD_SECONDS, 0.5)
  t.equal(config.LOG_LEVEL, 'info')
  t.notOk('HOME' in config)
})

const SIZE = 'at least 1024 bytes: 67108864, 64MiB or 1.5GB (units: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)'

t.test('every size may have a unit', async (t) => {
  t.match(
    loadConfig({
      STORAGE_BUDGET: '10GB',
      MAX_PAGE_BYTES: '1.5MiB',
      QUEUE_MAX_BYTES: '64MiB',
      MAX_RECORD_BYTES: '2048',
    }),
    { STORAGE_BUDGET: 10_000_000_000, MAX_PAGE_BYTES: 1_572_864, QUEUE_MAX_BYTES: 67_108_864, MAX_RECORD_BYTES: 2048 },
  )
})

t.test('the error for an invalid setting has its name, its value and the allowed values', async (t) => {
  for (const [name, value, allowed] of [
    ['PORT', 'abc', 'a whole number from 0 to 65535'],
    ['PORT', '65536', 'a whole number from 0 to 65535'],
    ['PORT', '-1', 'a whole number from 0 to 65535'],
    ['LOG_LEVEL', 'loud', 'one of trace, debug, info, warn, error, fatal, silent'],
    ['LOG_LEVEL', 'INFO', 'one of trace, debug, info, warn, error, fatal, silent: use info'],
    ['LOG_LEVEL', 'wrn', 'one of trace, debug, info, warn, error, fatal, silent: use warn'],
    ['OTEL_SDK_DISABLED', '1', 'one of true, false'],
    ['MAX_RECORD_BYTES', '1023', SIZE],
    ['MAX_RECORD_BYTES', '1Mi', `${SIZE}: use 1MiB`],
    ['MAX_RECORD_BYTES', '1mb', `${SIZE}: use 1MB`],
    ['MAX_RECORD_BYTES', '1kB', SIZE],
    ['MAX_BATCH_BYTES', '1024.5', SIZE],
    ['MAX_BATCH_RECORDS', '0', 'a whole number from 1 to 500000'],
    ['MAX_PAGE_BYTES', 'x', SIZE],
    ['FLUSH_MAX_ROWS', '500001', 'a whole number from 1 to 500000'],
    ['FLUSH_MAX_BYTES', 'x', SIZE],
    ['FLUSH_CONCURRENCY', '65', 'a whole number from 1 to 64'],
    ['QUEUE_MAX_BYTES', '12', SIZE],
    [
      'BACKUP_BUCKET_URL',
      'https://s3.example.com/bucket/old(er)',
      "a URL like https://s3.example.com/bucket/folder, without any of ! ' ( ) *",
    ],
    [
      'BACKUP_BUCKET_URL',
      'https://s3.example.com/bucket/old%28er%29',
      "a URL like https://s3.example.com/bucket/folder, without any of ! ' ( ) *",
    ],
    ['SHED_INGEST_SECONDS', '0', 'a number from 0.01 to 60'],
    ['SHED_READ_SECONDS', '61', 'a number from 0.01 to 60'],
    ['KEY_RECORDS_PER_SECOND', '0', 'a whole number from 1 to 1000000'],
    ['STORAGE_BUDGET', '1Gi', `${SIZE}: use 1GiB`],
    ['STORAGE_BUDGET', '10 GB', `${SIZE}: use 10GB`],
    ['STORAGE_BUDGET', '64M', `${SIZE}: use 64MB or 64MiB`],
    ['STALL_SECONDS', '61', 'a whole number from 1 to 60'],
    ['STALL_SECONDS', '30s', 'a whole number from 1 to 60: use 30'],
    ['STALL_SECONDS', '90s', 'a whole number from 1 to 60'],
    ['FLUSH_CONCURRENCY', '2.5', 'a whole number from 1 to 64'],
    ['SHED_READ_SECONDS', '2.5 s', 'a number from 0.01 to 60: use 2.5'],
    ['OUTAGE_HOLD_SECONDS', '-0.1', 'a number from 0 to 3600'],
    ['READ_CONNECTIONS', '0', 'a whole number from 1 to 100'],
    ['READ_TIMEOUT_SECONDS', '0.5', 'a number from 1 to 3600'],
    ['DRAIN_SECONDS', '601', 'a number from 0 to 600'],
  ] as const) {
    t.equal(errorOf({ [name]: value }), `${name} is "${value}", but must be ${allowed}`)
  }
})

t.test('the error for an invalid secret does not contain it', async (t) => {
  for (const [name, value] of [
    ['DATABASE_URL', 'mysql://root:hush@db/x'],
    ['DATABASE_READ_URL', 'postgres://root:hush@db:99999/x'],
    ['SLUICE_BOOTSTRAP_KEY', 'hush'],
    ['SLUICE_BOOTSTRAP_KEY', `${'hush'.repeat(8)}\n`],
  ] as const) {
    const message = errorOf({ [name]: value })
    t.match(message, new RegExp(`^${name} is a value that is not shown here, but must be `), name)
    t.notMatch(message, 'hush', name)
  }
})

/** Every setting that an operator may take for another one. */
t.test('no message contains the password of a URL, whichever setting has it', async (t) => {
  const url = 'https://user:hush@s3.example.com/old*'
  for (const name of Object.keys(ConfigSchema.properties)) {
    for (const value of [url, `"${url}"`, url.replace('https://', ''), url.replace('https', 'postgres')])
      t.notMatch(errorOf({ [name]: value }), 'hush', `${name}: ${value}`)
  }
  t.match(errorOf({ BACKUP_BUCKET_URL: url }), /^BACKUP_BUCKET_URL is "https:\/\/…@s3\.example\.com\/old\*", but/)
  t.match(
    errorOf({ CORS_ORIGINS: 'https://user:hush@a.example' }),
    /has "https:\/\/…@a\.example", but .* https:\/\/a\.example$/,
  )
  t.match(errorOf({ SLUICE_BOOTSTRAP_KEY: '"hush"' }), /\. Remove the quotes around it$/)
})

t.test('several invalid settings are reported at once, one per line', async (t) => {
  const lines = errorOf({ PORT: 'x', LOG_LEVEL: 'y', DATABASE_URL: 'hush', FLUSH_MAX_ROWS: '10' }).split('\n')
  t.same(lines.map((line) => line.split(' ')[0]).sort(), ['DATABASE_URL', 'LOG_LEVEL', 'PORT'])
})

// If MAX_BATCH_BYTES was larger than the queue (64 MiB by default), the server started, but it accepted a body of that size only
// while no other request was waiting.
t.test('a queue that is smaller than the largest body is refused', async (t) => {
  const message =
    'QUEUE_MAX_BYTES is 67108864, but must be at least MAX_BATCH_BYTES, 67108865: the largest body must fit'
  t.equal(errorOf({ MAX_BATCH_BYTES: String(64 * 1024 * 1024 + 1) }), message)
  t.match(
    errorOf({ QUEUE_MAX_BYTES: '2048', MAX_BATCH_BYTES: '4096' }),
    /^QUEUE_MAX_BYTES is 2048, .* MAX_BATCH_BYTES, 4096/,
  )
  t.equal(loadConfig({ QUEUE_MAX_BYTES: '4096', MAX_BATCH_BYTES: '4096' }).QUEUE_MAX_BYTES, 4096)
})

t.test('settings that would shed reads before ingestion are refused', async (t) => {
  t.equal(
    errorOf({ SHED_READ_SECONDS: '0.9' }),
    'SHED_READ_SECONDS is 0.9, but must be at least SHED_INGEST_SECONDS, 1: ingestion is shed first',
  )
  t.equal(loadConfig({ SHED_READ_SECONDS: '1' }).SHED_READ_SECONDS, 1)
})
