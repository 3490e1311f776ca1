import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import { sql } from 'kysely'
import t from 'tap'
import { makeFolder, newCluster, withoutBackup } from '../helpers/backup.ts'
import { connect } from '../helpers/connect.ts'
import { credentials, startObjectStorage } from '../helpers/object-storage.ts'
import { adapt, commands, file, put, repository } from '../helpers/operator-manual.ts'
import { missing, skipWithout } from '../helpers/skipping.ts'
import { UNSHED } from '../helpers/unshed.ts'

type Environment = Record<string, string>

const skip = missing('openssl') || missing('curl')
const sockets = await makeFolder(t)
const cluster = await newCluster(t, { unix_socket_directories: sockets })
const { hostname, port, username, password } = new URL(cluster.superUrl)
const root = await mkdtemp(join(tmpdir(), 'operator-'))
t.teardown(() => rm(root, { recursive: true, force: true }))
await chmod(root, 0o755)
const etc = join(root, 'etc')
const bin = join(root, 'bin')
/** What the tests replace in the manual's files and commands. */
const PLACES = { '/opt/sluice/': `${repository}/`, '/etc/sluice': etc }
const places = (text: string) =>
  Object.entries(PLACES).reduce((adapted, [from, to]) => adapted.replaceAll(from, to), text)
const envOf = async (name: string): Promise<Environment> =>
  parseEnv(await readFile(join(etc, `${name}.env`), 'utf8')) as Environment
// The services run as a user without privileges, unless the folder of this repository is closed to others.
const nobody = { uid: 65_534, gid: 65_534 }
const user =
  process.getuid?.() === 0 && spawnSync('test', ['-r', join(repository, 'package.json')], nobody).status === 0
    ? nobody
    : {}

/** URLs with several parameters: over a Unix socket, and as with TLS. */
const SOCKET = (role: string) => `postgres://${role}@/fresh?host=${sockets}&port=${port}`
const TLS = `postgres://${username}@${hostname}:${port}/fresh?sslmode=disable&application_name=operator`

await put(join(bin, 'sluice-as'), places(file('/usr/local/sbin/sluice-as')))
await put(join(bin, 'systemctl'), `#!/bin/sh\necho "$*" >>${join(root, 'systemctl')}\n`)
for (const program of ['sluice-as', 'systemctl']) await chmod(join(bin, program), 0o755)
/** The calls of systemctl since the last look. */
async function systemctl(): Promise<string[]> {
  const calls = await readFile(join(root, 'systemctl'), 'utf8').catch(() => '')
  await rm(join(root, 'systemctl'), { force: true })
  return calls.split('\n').filter((line) => line !== '')
}

t.test('the roles, the database, the tables and the first key, by the commands of the manual', { skip }, async (t) => {
  const [files = '', steps = '', createKey = '', rotate = ''] = commands('Roles')
  const adapted = adapt(files, {
    '/etc/sluice': etc,
    'postgres://ROLE@127.0.0.1:5432/sluice': SOCKET('ROLE'),
    'postgres://postgres@127.0.0.1:5432/sluice': TLS,
  })
  paste(adapted)
  const names = await readdir(etc)
  t.same(names.sort(), ['api.env', 'backup.env', 'bootstrap.env', 'maintenance.env', 'owner.env', 'reader.env'])
  for (const name of names)
    t.equal((await stat(join(etc, name))).mode & 0o777, 0o600, `only its owner can read ${name}`)
  const all = async () => Promise.all(names.map((name) => readFile(join(etc, name), 'utf8')))
  const before = await all()
  t.throws(() => paste(adapted), { message: /cannot overwrite existing file/ }, 'pasted again, it stops')
  t.same(await all(), before, 'and changes nothing')

  for (let times = 1; times <= 2; times++) {
    const messages = paste(steps, true)
      .trim()
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line).msg)
    const migrated = times === 1 ? 'migrated' : 'nothing to migrate'
    t.same(messages, ['the roles and the database exist', migrated, 'the first API key exists'])
  }
  t.match(paste(createKey), /sluice_[0-9a-f]{12}_/)

  const { PGPASSWORD: old } = await envOf('api')
  paste(places(rotate), true)
  const { PGPASSWORD: rotated } = await envOf('api')
  t.not(rotated, old)
  t.equal((await envOf('bootstrap')).SLUICE_API_PASSWORD, rotated)
  for (const [secret, works] of [
    [rotated, true],
    [old, false],
  ] as const) {
    const db = connect(urlOf('sluice_api', secret))
    const query = sql`SELECT 1`.execute(db).finally(() => db.destroy())
    await (works ? t.resolves(query) : t.rejects(query, { code: '28P01' }))
  }
})

const GENERATOR = '/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator'
t.test(
  'a shell, Node.js and systemd read the same from each file',
  { skip: skip || skipWithout('systemd-analyze', existsSync(GENERATOR)) },
  async (t) => {
    for (const name of ['owner', 'api', 'bootstrap']) {
      const path = join(etc, `${name}.env`)
      const expected = await envOf(name)
      t.match(expected.DATABASE_URL, name === 'bootstrap' ? TLS : SOCKET(`sluice_${name}`))
      const shell = spawnSync('sh', ['-c', `set -a; . ${path}; env`], { env: {}, encoding: 'utf8' })
      t.match(parseLines(shell.stdout), expected, `sh reads ${name}.env`)
      // It uses the reader of EnvironmentFile=, and prints what a shell can read.
      const config = join(root, name)
      await put(join(config, 'environment.d/test.conf'), await readFile(path, 'utf8'))
      const printed = spawnSync(GENERATOR, { env: { XDG_CONFIG_HOME: config, HOME: config }, encoding: 'utf8' }).stdout
      const systemd = spawnSync('sh', ['-c', `set -a; ${printed}\nenv`], { env: {}, encoding: 'utf8' })
      t.match(parseLines(systemd.stdout), expected, `systemd reads ${name}.env`)
    }
  },
)

const parseLines = (text: string) =>
  Object.fromEntries(text.split('\n').map((line) => [line.split('=')[0], line.slice(line.indexOf('=') + 1)]))

t.test('an upgrade stops at the first step that fails', { skip }, async (t) => {
  for (const [failing, calls] of [
    ['node', []],
    ['curl', ['daemon-reload', 'restart sluice-api@3000']],
  ] as const) {
    const folder = join(root, failing)
    const link = join(folder, 'sluice')
    await put(join(folder, 'old/x'), '')
    await symlink(join(folder, 'old'), link)
    await put(join(folder, 'new/node_modules/node/bin/node'), `#!/bin/sh\nexit ${failing === 'node' ? 1 : 0}\n`)
    await chmod(join(folder, 'new/node_modules/node/bin/node'), 0o755)
    const unit = 'scripts/linux/etc/systemd/system/x.service'
    await put(join(folder, 'new', unit), '')
    const block = adapt(commands('Upgrade')[0] as string, {
      '/opt/sluice/scripts': `${link}/scripts`,
      ' /etc/\n': ` ${folder}/\n`,
      '/opt/sluice-0.2.0': join(folder, 'new'),
      '/opt/sluice\n': `${link}\n`,
      '    curl ': failing === 'curl' ? '    false ' : '    true ',
    })
    t.throws(() => paste(block), failing)
    t.same(await systemctl(), calls)
    t.equal(await readlink(link), join(folder, failing === 'node' ? 'old' : 'new'))
  }
})

t.test(
  'the command of the service serves as the role of the API, and the one of maintenance deletes',
  { skip },
  async (t) => {
    const { SLUICE_BOOTSTRAP_KEY: key } = await envOf('owner')
    const settings = parseEnv(file('/etc/sluice/settings.env')) as Environment
    const env = { ...settings, ...(await envOf('api')), ...UNSHED, PORT: '0', METRICS_PORT: '0', DRAIN_SECONDS: '0' }
    const child = start('/etc/systemd/system/sluice-api@.service', env)
    t.teardown(() => void child.kill('SIGKILL'))
    let log = ''
    const url = await new Promise<string>((resolve, reject) => {
      child.stdout.setEncoding('utf8').on('data', (text) => {
        log += text
        const [, found] = /Server listening at (http:[^"]+)/.exec(log) ?? []
        if (found !== undefined) resolve(found)
      })
      child.once('exit', () => reject(new Error(log)))
    })
    for (const type of ['kept', 'old']) {
      const response = await fetch(`${url}/ingest/v1/records`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify({ source: 'operator', type, id: type }),
      })
      t.equal(response.status, 201, await response.text())
    }
    child.kill('SIGTERM')
    t.same(await once(child, 'exit'), [0, null], log)

    const policies = join(root, 'policies.json')
    await writeFile(policies, '[{ "type": "old", "maxCount": 0 }]')
    const deletion = start('/etc/systemd/system/sluice-maintenance.service', await envOf('maintenance'), {
      [join(etc, 'policies.json')]: policies,
    })
    const [output, [code]] = await Promise.all([deletion.stdout.toArray(), once(deletion, 'exit')])
    t.equal(code, 0, output.join(''))
    t.same(await types(), ['kept'])
  },
)

t.test(
  'the backup is made, tested and restored by the commands of the manual',
  { skip: skip || withoutBackup },
  async (t) => {
    const backups = await makeFolder(t)
    const scratch = await makeFolder(t)
    const unit = '/etc/systemd/system/sluice-backup.service'
    const [, settings = ''] = /^Environment=(BACKUPS.*)$/m.exec(file(unit)) ?? []
    const env = {
      ...parseEnv(settings.replaceAll(' ', '\n')),
      ...(await envOf('backup')),
      BACKUPS: backups,
      SCRATCH: scratch,
    }
    const { PATH, user } = cluster.programs
    for (const [, line = ''] of file(unit).matchAll(/^ExecStart=(.*)$/gm)) {
      const [program = '', ...args] = places(line).split(' ')
      const result = spawnSync(program, args, {
        env: { ...env, PATH } as Environment,
        encoding: 'utf8',
        cwd: '/',
        ...user,
      })
      t.equal(result.status, 0, result.stdout + result.stderr)
    }
    t.equal((await readdir(backups)).filter((name) => name.startsWith('sluice-')).length, 1)

    const storage = await startObjectStorage(t)
    const bucket = adapt(file('/etc/sluice/bucket.env'), {
      'https://s3.example.com': storage.url,
      '=id\n': `=${credentials.accessKeyId}\n`,
      '=secret\n': `=${credentials.secretAccessKey}\n`,
    })
    const upload = start(
      '/etc/systemd/system/sluice-backup.service.d/upload.conf',
      { ...(await envOf('backup')), ...(parseEnv(bucket) as Environment) },
      { '/var/lib/sluice-backups': backups },
    )
    const [output, [code]] = await Promise.all([upload.stdout.toArray(), once(upload, 'exit')])
    t.equal(code, 0, output.join(''))
    t.ok(storage.objects.size >= 3, 'the backup is in object storage')

    const [, aside = '', list = '', restore = ''] = commands('Backups')
    const ownDatabase = { 'DATABASE sluice ': 'DATABASE fresh ', "datname = 'sluice'": "datname = 'fresh'" }
    const bootstrap = join(etc, 'bootstrap.env')
    const text = await readFile(bootstrap, 'utf8')
    // A session of somebody else must not prevent it.
    const other = connect(urlOf('sluice_reader', (await envOf('reader')).PGPASSWORD))
    t.teardown(() => other.destroy())
    await sql`SELECT 1`.execute(other)
    for (const url of [TLS, SOCKET(username)]) {
      await writeFile(bootstrap, adapt(text, { [TLS]: url }))
      paste(adapt(places(aside), ownDatabase), true)
      t.same(await systemctl(), ['stop sluice-*'])
      t.match(await databases(), ['fresh', /^sluice_\d{8}_\d{6}$/], url)
      await dropAside()
    }
    const here = { '/var/lib/sluice-backups': backups }
    t.match(paste(adapt(places(list), here)), /dry run: .* can be restored here/)
    t.same(await systemctl(), [])
    t.match(paste(adapt(places(restore), here)), /the content matches its manifest/)
    t.match(await systemctl(), ['start sluice-api@3000 sluice-api@3001 sluice-maintenance.timer sluice-backup.timer'])
    t.same(await types(), ['kept'])
  },
)

/** A URL over TCP. */
const urlOf = (role: string, secret = '') =>
  Object.assign(new URL(cluster.superUrl), { pathname: '/fresh', username: role, password: secret }).href

/** The types of the stored records. */
async function types(): Promise<string[]> {
  const db = connect(urlOf('sluice_owner', (await envOf('owner')).PGPASSWORD))
  const { rows } = await sql<{ type: string }>`SELECT type FROM sluice.records`.execute(db).finally(() => db.destroy())
  return rows.map(({ type }) => type)
}

/** The database of the manual, and those set aside. */
async function databases(): Promise<string[]> {
  const db = connect(cluster.superUrl)
  const { rows } = await sql<{ datname: string }>`
    SELECT datname FROM pg_database WHERE datname = 'fresh' OR datname LIKE 'sluice\_%' ORDER BY datname`
    .execute(db)
    .finally(() => db.destroy())
  return rows.map(({ datname }) => datname)
}

/** Two databases that are set aside in the same second would have the same name. */
async function dropAside(): Promise<void> {
  const [, aside = ''] = await databases()
  const db = connect(cluster.superUrl)
  await sql`DROP DATABASE ${sql.id(aside)}`.execute(db).finally(() => db.destroy())
}

/** Runs the command of a service, with only this environment. */
function start(unit: string, env: Environment, replacements: Record<string, string> = {}) {
  const [, line = ''] = /^ExecStart=(.*)$/m.exec(file(unit)) ?? []
  const [program = '', ...args] = adapt(places(line), replacements).split(' ')
  // The test runner adds its own code to Node.js, which would write to a folder that this user must not change.
  return spawn('/usr/bin/env', ['-u', 'NODE_OPTIONS', program, ...args], {
    env,
    cwd: '/',
    stdio: ['ignore', 'pipe', 'inherit'],
    ...user,
  })
}

/**
 * Pastes a block into a shell that a person uses: without `set -e`, and what is typed next follows on the same input.
 * @returns what it prints. Throws if it fails, or if it leaves a password or another umask in the shell
 */
function paste(text: string, asksForPassword = false): string {
  const typed = asksForPassword ? `${decodeURIComponent(password)}\n` : ''
  const { stdout, stderr } = spawnSync('bash', {
    input: `${text}${typed}echo "ended with $? $(umask) \${PGPASSWORD-}\${SLUICE_BOOTSTRAP_KEY-}"\n`,
    env: { PATH: `${bin}:${process.env.PATH}` } as Environment,
    encoding: 'utf8',
    cwd: '/',
  })
  if (!stdout.endsWith('ended with 0 0022 \n')) throw new Error(`${text}\n${stdout}${stderr}`)
  return stdout.replace(/ended with .*\n$/, '')
}
