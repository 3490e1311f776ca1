import t from 'tap'
import { loadConfig } from '../../src/config.ts'

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
  ] as const) {
    for (const name of ['DATABASE_URL', 'DATABASE_READ_URL'] as const) {
      t.equal(resultOf(url, env, name), query, JSON.stringify([url, env]))
    }
  }
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
    [{ PGSERVICE: 'shop' }, 'DATABASE_URL cannot be used while PGSERVICE is set to "shop": Sluice does not support it'],
    [{ PGCHANNELBINDING: 'require' }, 'while PGCHANNELBINDING is set to "require"'],
    [{ PGGSSENCMODE: 'require' }, 'while PGGSSENCMODE is set to "require"'],
    [{ PGREQUIREAUTH: 'scram-sha-256' }, 'while PGREQUIREAUTH is set to "scram-sha-256"'],
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
  const harmless = {
    PGCHANNELBINDING: 'prefer',
    PGGSSENCMODE: 'disable',
    PGREQUIREAUTH: '',
    PGREQUIRESSL: '0',
    PGSSLCERTMODE: 'allow',
    PGSSLMINPROTOCOLVERSION: 'TLSv1.2',
    PGUSER: 'shop',
    PGCONNECT_TIMEOUT: '5',
  }
  t.equal(resultOf('postgres://db/x', harmless), '')
})
