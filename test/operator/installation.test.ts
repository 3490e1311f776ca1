import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import { sql } from 'kysely'
import t from 'tap'
import { makeFolder, newCluster, withoutBackup } from '../helpers/backup.ts'
import { connect } from '../helpers/connect.ts'
import { adapt, commands, file, repository } from '../helpers/operator-manual.ts'
import { missing } from '../helpers/skipping.ts'

type Environment = Record<string, string>

/** What the tests replace in the manual's files and commands. */
const PLACES = { '/opt/sluice/': `${repository}/` }
const skip = missing('openssl')
const cluster = await newCluster(t)
const { hostname, port, username, password } = new URL(cluster.superUrl)
const root = await mkdtemp(join(tmpdir(), 'operator-'))
t.teardown(() => rm(root, { recursive: true, force: true }))
const etc = join(root, 'etc')
const envOf = async (name: string): Promise<Environment> =>
  parseEnv(await readFile(join(etc, `${name}.env`), 'utf8')) as Environment
// The services run as a user without rights, unless the folder of this repository is closed to others.
const nobody = { uid: 65_534, gid: 65_534 }
const user =
  process.getuid?.() === 0 && spawnSync('test', ['-r', join(repository, 'package.json')], nobody).status === 0
    ? nobody
    : {}

t.test('the roles, the database, the tables and the first key, by the commands of the manual', { skip }, async (t) => {
  const [files = '', steps = ''] = commands('Roles')
  paste(
    adapt(files, {
      '/etc/sluice': etc,
      'SERVER=127.0.0.1:5432': `SERVER=${hostname}:${port}`,
      '%s/sluice\\n': '%s/fresh\\n',
      'postgres://postgres@': `postgres://${username}@`,
      'of-the-superuser': decodeURIComponent(password),
    }),
  )
  const names = await readdir(etc)
  t.same(names.sort(), ['api.env', 'backup.env', 'bootstrap.env', 'maintenance.env', 'owner.env', 'reader.env'])
  for (const name of names)
    t.equal((await stat(join(etc, name))).mode & 0o777, 0o600, `only its owner can read ${name}`)

  for (let times = 1; times <= 2; times++) {
    const output = paste(adapt(steps, { ...PLACES, '/etc/sluice': etc }))
    const messages = output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).msg)
    const migrated = times === 1 ? 'migrated' : 'nothing to migrate'
    t.same(messages, ['the roles and the database exist', migrated, 'the first API key exists'])
  }
})

t.test(
  'the command of the service serves as the role of the API, and the one of maintenance deletes',
  { skip },
  async (t) => {
    const { SLUICE_BOOTSTRAP_KEY: key } = await envOf('owner')
    const settings = parseEnv(file('/etc/sluice/settings.env')) as Environment
    const env = { ...settings, ...(await envOf('api')), PORT: '0', METRICS_PORT: '0', DRAIN_SECONDS: '0' }
    const child = start('/etc/systemd/system/sluice-api@.service', env)
    t.teardown(() => void child.kill('SIGKILL'))
    const url = await new Promise<string>((resolve, reject) => {
      let log = ''
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
    t.same(await once(child, 'exit'), [0, null])

    const policies = join(root, 'policies.json')
    await writeFile(policies, '[{ "type": "old", "maxCount": 0 }]')
    await chmod(root, 0o755)
    const deletion = start('/etc/systemd/system/sluice-maintenance.service', await envOf('maintenance'), {
      '/etc/sluice/policies.json': policies,
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
      const [program = '', ...args] = adapt(line, PLACES).split(' ')
      const result = spawnSync(program, args, {
        env: { ...env, PATH } as Environment,
        encoding: 'utf8',
        cwd: '/',
        ...user,
      })
      t.equal(result.status, 0, result.stdout + result.stderr)
    }
    t.equal((await readdir(backups)).filter((name) => name.startsWith('sluice-')).length, 1)

    const [aside = '', restore = ''] = commands('Backups')
    const places = { '/etc/sluice': etc, '/opt/sluice/': `${repository}/` }
    paste(
      adapt(aside, {
        ...places,
        "systemctl stop 'sluice-api@*'": ':',
        'DATABASE sluice RENAME TO sluice_old': 'DATABASE fresh RENAME TO old',
      }),
    )
    const output = paste(adapt(restore, { ...places, '/var/lib/sluice-backups': backups }))
    t.match(output, /dry run: .* can be restored here/)
    t.match(output, /the content matches its manifest/)
    t.same(await types(), ['kept'])
  },
)

/** The types of the stored records. */
async function types(): Promise<string[]> {
  const owner = await envOf('owner')
  const url = Object.assign(new URL(owner.DATABASE_URL as string), { password: owner.PGPASSWORD }).href
  const db = connect(url)
  const { rows } = await sql<{ type: string }>`SELECT type FROM sluice.records`.execute(db).finally(() => db.destroy())
  return rows.map(({ type }) => type)
}

/** Runs the command of a service, with only this environment. */
function start(unit: string, env: Environment, replacements: Record<string, string> = {}) {
  const [, line = ''] = /^ExecStart=(.*)$/m.exec(file(unit)) ?? []
  const [program = '', ...args] = adapt(line, { ...PLACES, ...replacements }).split(' ')
  return spawn(program, args, { env, cwd: '/', stdio: ['ignore', 'pipe', 'inherit'], ...user })
}

/** Pastes commands into a shell. @returns what they print. Throws if one fails */
function paste(text: string): string {
  const { status, stdout, stderr } = spawnSync('bash', ['-eu', '-o', 'pipefail', '-c', text], {
    env: { PATH: process.env.PATH } as Environment,
    encoding: 'utf8',
    cwd: '/',
  })
  if (status !== 0) throw new Error(`${text}\nended with ${status}:\n${stdout}${stderr}`)
  return stdout
}
