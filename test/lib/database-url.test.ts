import pg from 'pg'
import t from 'tap'
import { loadConfig } from '../../src/config.ts'

/** What the driver makes of the URL. */
function read(url: string) {
  const { DATABASE_URL } = loadConfig({ DATABASE_URL: url })
  t.ok(URL.canParse(DATABASE_URL as string), 'other code reads it with new URL')
  const { user, password, host, port, database } = new pg.Client({ connectionString: DATABASE_URL })
  return { user, password, host, port, database }
}

/** The message of the error. */
function refusalOf(url: string, name = 'DATABASE_URL'): string {
  try {
    loadConfig({ [name]: url })
  } catch (error) {
    return (error as Error).message
  }
  return 'no error'
}

t.test('an unencoded character in a password is named, and no part of the password is shown', async (t) => {
  for (const name of ['DATABASE_URL', 'DATABASE_READ_URL']) {
    for (const character of ['@', '#', '/', '?', '%', '@/', '/@', '?a=', '@?a=', '#@', '?&']) {
      // Long enough that it cannot occur by chance, and a number, which would pass for a port.
      for (const [before, after] of [
        ['hush', 'secret'],
        ['5432', 'zz1234'],
      ]) {
        const message = refusalOf(`postgres://shop:${before}${character}${after}@db.example/sluice`, name)
        t.match(
          message,
          /^DATABASE_(READ_)?URL contains an unencoded [@#/?%], probably in its password\. Percent-encode/,
        )
        t.match(message, '@ as %40, # as %23, / as %2F, ? as %3F, % as %25', character)
        t.notMatch(message, /hush|secret|5432|1234|shop|db\.example/, character)
      }
    }
  }
  for (const url of ['postgres://shop:hu sh@db/sluice', 'postgres://shop:hush@db/sluice\n']) {
    t.match(refusalOf(url), /^DATABASE_URL contains white space, .* a space in a password as %20$/)
  }
})

t.test('an encoded password reaches the driver as it is', async (t) => {
  const password = `p@#/?% ${'\u00e9'}:&=+'"[]`
  const url = `postgres://shop:${encodeURIComponent(password)}@db.example:5433/sluice`
  t.same(read(url), { user: 'shop', password, host: 'db.example', port: 5433, database: 'sluice' })
})

t.test('a Unix socket can be given in each of the forms of libpq', async (t) => {
  for (const [url, expected] of [
    ['postgres://shop@/sluice?host=/run/postgresql', { user: 'shop', host: '/run/postgresql', port: 5432 }],
    ['postgresql://shop:p%40@/sluice?port=5433&host=/run/postgresql', { password: 'p@', port: 5433 }],
    ['postgres:///sluice?host=/run/postgresql&user=shop', { user: 'shop', host: '/run/postgresql' }],
    ['postgres://shop:pw@%2Frun%2Fpostgresql:5433/sluice', { host: '/run/postgresql', port: 5433, password: 'pw' }],
  ] as const) {
    t.match(read(url), { database: 'sluice', ...expected }, url)
  }
})

t.test('what else cannot work is refused with a reason', async (t) => {
  const folder = t.testdir({ 'ca.pem': '' })
  for (const [url, message] of [
    ['postgres://shop@/sluice', 'has no host'],
    ['postgres://a:5432,b:5432/sluice', 'names several hosts. Use one host'],
    ['postgres://db:99999/sluice', 'The port must be a number up to 65535'],
    ['postgres://db/sluice?sslmod=require', 'has the unknown parameter "sslmod". The parameters are application_name'],
    ['postgres://db/sluice?sslmode=foo', 'has sslmode=foo. The values are disable, require, verify-ca, verify-full'],
    ['postgres://db/sluice?sslmode=prefer', 'does not fall back to an unencrypted connection'],
    ['postgres://db/sluice?sslmode=verify-ca', 'add sslrootcert=FILE'],
    [
      'postgres://db/sluice?sslmode=verify-full&sslrootcert=/no/ca.pem',
      'sslrootcert=/no/ca.pem, but that file cannot be read (ENOENT)',
    ],
    ['postgres://db/sluice?sslkey=/no/key', 'sslkey=/no/key, but that file cannot be read (ENOENT)'],
  ] as const) {
    t.match(refusalOf(url), `DATABASE_URL`)
    t.match(refusalOf(url), message, url)
  }
  for (const query of ['sslmode=disable', 'sslmode=require', `sslmode=verify-ca&sslrootcert=${folder}/ca.pem`]) {
    t.equal(refusalOf(`postgres://db/sluice?${query}`), 'no error')
  }
})

t.test('a value that is no URL of PostgreSQL gets the advice that fits, and is not shown', async (t) => {
  for (const [value, advice] of [
    ['postgres://u:hush@[::1/db', 'A ] is missing after the IPv6 address'],
    ['postgres://u:hush@::1:5432/db', 'An IPv6 address is written in brackets, such as [::1]:5432'],
    ['postgres://u:hush@d<b/db', 'The host has a character that no host has'],
    ['postgres://u:hush@db:x/db', 'The port must be a number up to 65535'],
    ['"postgres://u:hush@db/x"', 'Remove the quotes around it'],
    [' postgres://u:hush@db/x', 'Remove the white space at its beginning'],
    [
      'jdbc:postgresql://db/x?password=hush',
      'Remove jdbc: at its beginning, and write the user and the password before the host',
    ],
    ['postgresql+psycopg2://u:hush@db/x', 'Remove the plus sign and the name of the driver from its scheme'],
    ['DATABASE_URL=postgres://u:hush@db/x', 'Remove the name of the setting from its value'],
    ['psql postgres://u:hush@db/x', 'Remove psql at its beginning'],
    ['host=db password=hush', 'Write host, user and dbname as a URL'],
    [`\${DATABASE_URL}`, 'It is a variable that nothing replaced'],
    ['mysql://u:hush@db/x', 'Sluice needs PostgreSQL'],
    ['POSTGRES://u:hush@db/x', 'Write its scheme in lower case, with two slashes after the colon'],
    ['postgres:u:hush@db/x', 'Write its scheme in lower case, with two slashes after the colon'],
    ['u:hush@db/x', 'Write postgres:// at its beginning'],
    ['db:5432/x', 'Write postgres:// at its beginning'],
  ] as const) {
    const message = refusalOf(value)
    t.equal(
      message,
      `DATABASE_URL is a value that is not shown here, but must be a URL like postgres://user:password@host:5432/database. ${advice}`,
      value,
    )
    t.notMatch(message, 'hush', value)
  }
})
