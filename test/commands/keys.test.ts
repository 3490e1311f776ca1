import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { hashKey } from '../../src/access/key.ts'
import { runCommand } from '../helpers/command.ts'
import { connect } from '../helpers/connect.ts'
import { createDatabase } from '../helpers/postgres.ts'

const { apiUrl, superUrl } = await createDatabase(t)
const root = connect(superUrl)
t.teardown(() => root.destroy())

t.test('keys create prints only the key on stdout, and stores only its hash', async (t) => {
  const { stdout, stderr, code } = await run(t, [
    'create',
    '--name',
    'the shop',
    '--scope',
    'ingest',
    'read',
    '--source-prefix',
    'shop/',
    'https://shop.example/',
    '--expires',
    '2999-01-31T12:00:00Z',
  ])
  t.equal(code, 0)
  t.match(stdout, /^sluice_[0-9a-f]{12}_[\w-]{43}\n$/)
  t.match(stderr, /^Key [0-9a-f]{12} \(ingest, read\), until 2999-01-31T12:00:00\.000Z\. .*not shown again.*\n$/)
  const token = stdout.trim()
  t.notMatch(stderr, token)

  const { rows } = await sql<{
    text: string
    hash: Buffer
  }>`SELECT k::text AS text, hash FROM sluice.keys AS k`.execute(root)
  t.equal(rows[0]?.hash.toString('hex'), hashKey(token))
  t.notMatch(rows[0]?.text, token.slice('sluice_'.length + 13), 'the secret is not stored')
})

t.test('keys list shows a key and its state, but neither its token nor its hash', async (t) => {
  const { stdout: token } = await run(t, [
    'create',
    '--name',
    'listed',
    '--scope',
    'admin',
    '--rate',
    '50',
    '--expires',
    '90d',
  ])
  const id = token.split('_')[1] as string
  const { rows } = await sql<{
    hash: string
  }>`SELECT encode(hash, 'hex') AS hash FROM sluice.keys WHERE id = ${id}`.execute(root)

  const json = await run(t, ['list', '--json'])
  t.equal(json.code, 0)
  const listed = JSON.parse(json.stdout).find((key: { id: string }) => key.id === id)
  t.equal(listed.recordsPerSecond, 50)
  t.match(listed, { name: 'listed', scopes: 'admin', sourcePrefixes: '', state: 'active', expiresAt: /^\d{4}-.*Z$/ })
  const days = (new Date(listed.expiresAt).getTime() - new Date(listed.createdAt).getTime()) / 86_400_000
  t.ok(days > 89.9 && days < 90.1, `it expires after ${days} days`)

  const table = await run(t, ['list'])
  t.match(table.stdout, id)
  for (const { stdout } of [json, table]) {
    t.notMatch(stdout, token.trim())
    t.notMatch(stdout, (rows[0] as { hash: string }).hash)
    t.notMatch(stdout, (rows[0] as { hash: string }).hash.slice(0, 16))
  }
})

t.test('keys list escapes control characters in names', async (t) => {
  const name = 'a\x1b]0;x\x07\x9b31m\u202e'
  t.equal((await run(t, ['create', '--name', name, '--scope', 'ingest', '--source-prefix', name])).code, 0)
  for (const option of [[], ['--json']]) {
    const { stdout } = await run(t, ['list', ...option])
    t.match(stdout, /u009b31m\\+u202e/)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: this is what must not be printed
    t.notMatch(stdout, /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/)
    if (option.length > 0) t.ok(JSON.parse(stdout).some((key: { name: string }) => key.name === name))
  }
})

t.test('keys revoke revokes a key, and can be repeated', async (t) => {
  const { stdout: token } = await run(t, ['create', '--name', 'revoked', '--scope', 'ingest'])
  const id = token.split('_')[1] as string
  for (let times = 0; times < 2; times++) {
    t.match(await run(t, ['revoke', id]), { code: 0, stdout: '', stderr: `Key ${id} is revoked.\n` })
  }
  const keys = JSON.parse((await run(t, ['list', '--json'])).stdout)
  t.match(
    keys.find((key: { id: string }) => key.id === id),
    { state: 'revoked' },
  )
})

const KEY = `sluice_0123456789ab_${'x'.repeat(43)}`

t.test('an invalid command gets one sentence on stderr and exit code 1', async (t) => {
  for (const [args, sentence] of [
    [['revoke', 'none'], /^sluice: There is no key none\. "sluice keys list" shows all keys\.\n$/],
    [
      ['create', '--name', 'x', '--scope', 'write'],
      /^sluice: There is no scope write\. The scopes are ingest, read, admin \(did you mean ingest\?\)\.\n$/,
    ],
    [['create', '--name', 'x', '--scope', 'ingest,read'], /separate them with spaces, as in --scope ingest read\.\n$/],
    // The key itself is not repeated.
    [['revoke', KEY], /^sluice: This is a key, not its id,.* To revoke it: sluice keys revoke 0123456789ab\.\n$/],
    [['revoke', KEY.slice(8)], /^sluice: There is no key with this id\. "sluice keys list" shows all keys\.\n$/],
    [
      ['create', '--name', 'x', '--scope', 'read', '--expires', 'soon'],
      /^sluice: --expires soon is neither a time like .*\n$/,
    ],
    [
      ['create', '--name', 'x', '--scope', 'read', '--expires', '2001-01-01'],
      /^sluice: --expires 2001-01-01 is in the past\.\n$/,
    ],
    [
      ['create', '--name', 'x', '--scope', 'read', '--source-prefix', 'shop/', ''],
      /^sluice: --source-prefix "" allows every source; omit it to create a key for every source\.\n$/,
    ],
    [
      ['create', '--name', 'x', '--scope', 'read', '--source-prefix', 'sh*p'],
      /^sluice: --source-prefix "sh\*p" has a \* before its end; only the last character can be \*\.\n$/,
    ],
    [
      ['create', '--name', 'x', '--scope', 'read', '--source-prefix', 'x'.repeat(513)],
      /^sluice: --source-prefix "x+" is longer than 512 bytes, the limit for a source\.\n$/,
    ],
    [
      ['create', '--name', 'x', '--scope', 'ingest', '--rate', '1.5'],
      /^sluice: --rate 1\.5 is not a whole number of records per second from 1 to 1000000\.\n$/,
    ],
    [['create', '--scope', 'read'], /^error: required option '--name <name>' not specified\n$/],
  ] as [string[], RegExp][]) {
    const { code, stdout, stderr } = await run(t, args)
    t.equal(code, 1, args.join(' '))
    t.equal(stdout, '')
    t.match(stderr, sentence)
  }
})

t.test('an unreachable database is reported in one line, without its password', async (t) => {
  const { code, stdout, stderr } = await run(t, ['list'], 'postgres://sluice:hush@127.0.0.1:1/none')
  t.equal(code, 1)
  t.equal(stdout, '')
  t.match(stderr, /^sluice: .*ECONNREFUSED 127\.0\.0\.1:1\. Start PostgreSQL, .*\.\n$/)
  t.notMatch(stderr, 'hush')
})

t.test('a wrong password is reported in one line that does not contain it', async (t) => {
  const url = Object.assign(new URL(apiUrl), { password: 'hush' }).href
  const { code, stderr } = await run(t, ['list'], url)
  t.equal(code, 1)
  t.match(stderr, /^sluice: .*password authentication failed.*\.\n$/)
  t.notMatch(stderr, 'hush')
})

async function run(t: Test, args: string[], url = apiUrl) {
  const { stdout, stderr, exit } = runCommand(t, ['keys', ...args], { DATABASE_URL: url })
  const code = await exit
  return { stdout: stdout(), stderr: stderr(), code }
}
