import pg from 'pg'
import t from 'tap'
import { loadConfig } from '../../src/config.ts'
import { keyFileOf } from '../../src/lib/local-folder.ts'

/** The query of the URL that Sluice uses, or the message of the error. */
function resultOf(
  url: string,
  env: Record<string, string>,
  name: 'DATABASE_URL' | 'DATABASE_READ_URL' = 'DATABASE_URL',
) {
  try {
    return decodeURIComponent(new URL(loadConfig({ [name]: url, ...env })[name] as string).search)
  } catch (error) {
    return (error as Error).message
  }
}

t.test('the variables of libpq for TLS count as parameters of the URL', async (t) => {
  const file = `${t.testdir({ 'ca.pem': '' })}/ca.pem`
  for (const [url, env, query] of [
    ['postgres://db/x', { PGSSLMODE: 'verify-full' }, '?sslmode=verify-full'],
    ['postgres://db/x', { PGSSLMODE: '' }, ''],
    ['postgres://db/x', { PGSSLMODE: 'require', PGSSLROOTCERT: file }, `?sslmode=require&sslrootcert=${file}`],
    ['postgres://db/x', { PGSSLCERT: file, PGSSLKEY: file }, `?sslcert=${file}&sslkey=${file}`],
    ['postgres://db/x', { PGSSLNEGOTIATION: 'direct' }, '?sslnegotiation=direct'],
    ['postgres://db/x?sslmode=disable', { PGSSLMODE: 'verify-full' }, '?sslmode=disable'],
    ['postgres:///x', { PGHOST: '/run/postgresql' }, '?host=/run/postgresql'],
    ['postgres://db/x', { PGHOST: 'other' }, ''],
    ['postgres://shop@/x', { PGHOST: '/run/postgresql' }, '?host=/run/postgresql'],
    // An unencrypted connection reads no certificates, and a Unix socket has no TLS at all.
    ['postgres://db/x?sslmode=disable', { PGSSLROOTCERT: '/no/ca.pem', PGSSLCERT: '/no/crt' }, '?sslmode=disable'],
    ['postgres://db/x', { PGSSLROOTCERT: '/no/ca.pem', PGSSLMODE: 'disable' }, '?sslmode=disable'],
    ['postgres:///x?host=/run', { PGSSLMODE: 'prefer', PGSSLROOTCERT: '/no/ca.pem' }, '?host=/run'],
    ['postgres:///x?host=/run&sslmode=prefer', {}, '?host=/run&sslmode=prefer'],
    ['postgres:///x', { PGSSLMODE: 'prefer', PGHOST: '/run' }, '?host=/run'],
    ['postgres://%2Frun/x', { PGSSLMODE: 'prefer' }, ''],
    // Which database it is must be in the URL: the name of the key file depends on it.
    ['postgres://db/x', { PGPORT: '5433', PGUSER: 'shop' }, '?user=shop&port=5433'],
    ['postgres://me@db:5432/x', { PGPORT: '5433', PGUSER: 'shop' }, ''],
    ['postgres:///x?host=/run&port=1&user=me', { PGPORT: '5433', PGUSER: 'shop' }, '?host=/run&port=1&user=me'],
    ['postgres://db/x', { PGOPTIONS: '-c work_mem=8MB' }, '?options=-c+work_mem=8MB'],
    ['postgres://db/x?options=-c+jit%3Doff', { PGOPTIONS: '-c work_mem=8MB' }, '?options=-c+jit=off'],
  ] as const) {
    for (const name of ['DATABASE_URL', 'DATABASE_READ_URL'] as const) {
      t.equal(resultOf(url, env, name), query, JSON.stringify([url, env]))
    }
  }
})

t.test('PGDATABASE is the database of a URL without one', async (t) => {
  for (const [url, database] of [
    ['postgres://db', 'a b%/\u00e9'],
    ['postgres://db/', 'a b%/\u00e9'],
    ['postgres:///?host=/run', 'a b%/\u00e9'],
    ['postgres://db/x', 'x'],
  ] as const) {
    const { DATABASE_URL } = loadConfig({ DATABASE_URL: url, PGDATABASE: 'a b%/\u00e9' })
    t.equal(new pg.Client({ connectionString: DATABASE_URL }).database, database, url)
  }
})

// Two servers on one host, told apart only by PGPORT, had one key file.
t.test('the key file depends on the variables that choose the database', async (t) => {
  const files = [{}, { PGPORT: '5433' }, { PGDATABASE: 'x' }, { PGUSER: 'u' }].map((env) =>
    keyFileOf(loadConfig({ DATABASE_URL: 'postgres://h/', ...env }).DATABASE_URL),
  )
  t.equal(new Set(files).size, files.length)
})

// A misspelt PGSSLMODE connected without encryption.
t.test('a value that the driver would ignore is refused, and the message names the variable', async (t) => {
  for (const [env, message] of [
    [{ PGSSLMODE: 'foo' }, 'DATABASE_URL has sslmode=foo (from PGSSLMODE). The values are disable, require, verify-ca'],
    [
      { PGSSLMODE: 'prefer' },
      'sslmode=prefer (from PGSSLMODE). The values are disable, require, verify-ca, verify-full, no-verify. (Sluice does not fall back',
    ],
    [{ PGSSLMODE: 'verify-ca' }, 'sslmode=verify-ca (from PGSSLMODE), but not the file of the authority'],
    [
      { PGSSLROOTCERT: '/no/ca.pem' },
      'sslrootcert=/no/ca.pem (from PGSSLROOTCERT), but that file cannot be read (ENOENT)',
    ],
    [{ PGSSLROOTCERT: 'system' }, 'sslrootcert=system (from PGSSLROOTCERT). Leave it out: sslmode=verify-full uses'],
    [{ PGSSLNEGOTIATION: 'foo' }, 'sslnegotiation=foo (from PGSSLNEGOTIATION). The values are postgres, direct'],
    [
      { PGSSLNEGOTIATION: 'direct', PGSSLMODE: 'disable' },
      'sslnegotiation=direct (from PGSSLNEGOTIATION), which needs TLS',
    ],
    [
      { PGSERVICE: 'shop' },
      'DATABASE_URL cannot be used while PGSERVICE is set to "shop", which Sluice does not support. Unset it. Write what the service file says into the URL',
    ],
    [{ PGHOSTADDR: '10.0.0.1' }, 'Write the address as the host of the URL'],
    [{ PGREPLICATION: 'true' }, 'while PGREPLICATION is set to "true"'],
    [{ PGPORT: '5432,5433' }, 'has port=5432,5433 (from PGPORT), but it must be one number from 1 to 65535'],
    [
      { PGCHANNELBINDING: 'require' },
      'while PGCHANNELBINDING is set to "require", which Sluice does not support. Unset it. sslmode=verify-full encrypts',
    ],
    [{ PGGSSENCMODE: 'require' }, 'while PGGSSENCMODE is set to "require"'],
    [
      { PGREQUIREAUTH: 'scram-sha-256' },
      'while PGREQUIREAUTH is set to "scram-sha-256", which Sluice does not support. Unset it. The method',
    ],
    [{ PGREQUIREPEER: 'postgres' }, 'while PGREQUIREPEER is set to "postgres"'],
    [{ PGREQUIRESSL: '1' }, 'while PGREQUIRESSL is set to "1"'],
    [{ PGSSLCERTMODE: 'require' }, 'while PGSSLCERTMODE is set to "require"'],
    [{ PGSSLCRL: '/crl.pem' }, 'while PGSSLCRL is set to "/crl.pem"'],
    [{ PGSSLCRLDIR: '/crl' }, 'while PGSSLCRLDIR is set to "/crl"'],
    [{ PGSSLMINPROTOCOLVERSION: 'TLSv1.3' }, 'while PGSSLMINPROTOCOLVERSION is set to "TLSv1.3"'],
  ] as const) {
    t.match(resultOf('postgres://db/x', env), message)
    t.doesNotThrow(() => loadConfig(env), 'the embedded PostgreSQL is not affected')
  }
  const two = resultOf('postgres:///x', { PGHOST: 'a,b' })
  t.match(two, 'has host=a,b (from PGHOST), which are several hosts. Use one host')
  const harmless = {
    PGCHANNELBINDING: 'prefer',
    PGGSSENCMODE: 'disable',
    PGREQUIREAUTH: '',
    PGREQUIRESSL: '0',
    PGSSLCERTMODE: 'allow',
    PGSSLMINPROTOCOLVERSION: 'TLSv1.2',
    PGCONNECT_TIMEOUT: '5',
  }
  t.equal(resultOf('postgres://db/x', harmless), '')
})
