import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { chmod, chown, copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { Client } from 'pg'
import t, { type Test } from 'tap'
import { type Home, prepareHome } from '../../db/embedded/home.ts'
import { freePort } from '../../scripts/durability/server.ts'
import { type Manifest, readManifests } from '../helpers/kustomize.ts'
import { missing, skipUnless } from '../helpers/skipping.ts'

// Runs the container's command as the container does: the script and the settings from the ConfigMap, with a real PostgreSQL.
// The two programs that only the image has are replaced by short scripts with the same effect.
const component = new URL('../../k8s/components/postgres/', import.meta.url)
const [container] = readManifests('k8s/components/postgres/statefulset.yaml')[0].spec.template.spec.containers
const skip = skipUnless(process.platform === 'linux', 'needs Linux') || missing('flock')

const notIsolated = skipUnless(
  spawnSync('unshare', ['--pid', '--fork', '--mount-proc', 'true']).status === 0 && process.getuid?.() === 0,
  'needs root, for a process namespace',
)

t.test('the server that start.sh starts', { skip }, async (t) => {
  const volume = await makeVolume(t)

  t.test('creates the database at its first start, and asks for passwords with SCRAM', async (t) => {
    const server = await start(t, volume)
    await server.line(/database system is ready/)
    await server.query('CREATE TABLE kept AS SELECT 1 AS a')
    const [method] = await server.query(
      "SELECT auth_method FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'",
    )
    t.ok(
      server.lines.some((line) => /"message":"The database cluster will be initialized/.test(line)),
      'what initdb writes is in the log',
    )
    checkLines(t, server.lines)
    t.equal(method, undefined)
    await t.rejects(server.query('SELECT', 'wrong'), { code: '28P01' })
  })

  t.test('logs only JSON, except for the lines before its log collector runs', async (t) => {
    const server = await start(t, volume)
    await server.line(/database system is ready/)
    await t.rejects(server.query("SELECT 'a secret value'::int"), { code: '22P02' })
    await server.line(/invalid input syntax/)
    checkLines(t, server.lines)
  })

  t.test('is alone on the volume: a newcomer logs that it waits, and starts after the other was killed', async (t) => {
    const old = await start(t, volume)
    await old.line(/database system is ready/)
    await old.query('INSERT INTO kept VALUES (2)')

    const newcomer = await start(t, volume)
    await newcomer.line(/another PostgreSQL still runs on this volume/)
    await old.query('INSERT INTO kept VALUES (3)')
    t.equal(newcomer.lines.length, 1, 'it only waits')

    old.kill('SIGKILL')
    await newcomer.line(/database system is ready/)
    t.strictSame(await newcomer.query('SELECT a FROM kept ORDER BY a'), [{ a: 1 }, { a: 2 }, { a: 3 }])
  })

  t.test(
    'is alone on the volume even if the two are in different process namespaces',
    { skip: notIsolated },
    async (t) => {
      const old = await start(t, volume, { ISOLATED: '1' })
      await old.line(/database system is ready/)
      const recordedPid = await readFile(join(volume.folder, 'volume/pgdata/postmaster.pid'), 'utf8')
      t.not(
        Number.parseInt(recordedPid, 10),
        old.pid(),
        'the process id in the file has no meaning outside of its namespace',
      )

      const newcomer = await start(t, volume, { ISOLATED: '1' })
      await newcomer.line(/another PostgreSQL still runs on this volume/)
      t.strictSame(await old.query('SELECT 1 AS a'), [{ a: 1 }])
      old.kill('SIGKILL')
      await newcomer.line(/database system is ready/)
    },
  )

  // If any child process of PostgreSQL 18 ends with an error, it assumes that one of its own processes crashed. As the first
  // process of a container it inherits orphans, such as the processes of a probe that timed out.
  t.test('is not disturbed by an orphaned process', { skip: notIsolated }, async (t) => {
    const server = await start(t, volume, { ISOLATED: '1' })
    await server.line(/database system is ready/)
    const sleeping = server.query('SELECT pg_sleep(60)')
    const ended = t.rejects(sleeping, { code: '57P01' }, 'the query ends only when the server is stopped')
    await server.backend('SELECT pg_sleep')

    const orphan = '{ while kill -0 $$; do :; done; exit 2; } 2>/dev/null &'
    await once(spawn('nsenter', [`--target=${server.pid()}`, '--pid', 'bash', '-c', orphan]), 'close')
    t.strictSame(await server.query('SELECT 1 AS a'), [{ a: 1 }])
    server.kill('SIGINT')
    await ended
  })

  t.test('holds the lock until its last process has ended, not only the first', async (t) => {
    const old = await start(t, volume)
    await old.line(/database system is ready/)
    const sleeping = old.query('SELECT pg_sleep(60)').catch(() => {})
    const backend = await old.backend('SELECT pg_sleep')
    process.kill(backend, 'SIGSTOP')
    old.kill('SIGKILL')
    await once(old.process, 'exit')

    const newcomer = await start(t, volume)
    await newcomer.line(/another PostgreSQL still runs on this volume/)
    process.kill(backend, 'SIGKILL')
    await newcomer.line(/database system is ready/)
    t.strictSame(await newcomer.query('SELECT 1 AS a'), [{ a: 1 }])
    await sleeping
  })

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    t.test(`a newcomer that waits ends at ${signal}`, async (t) => {
      const old = await start(t, volume)
      await old.line(/database system is ready/)
      const newcomer = await start(t, volume)
      await newcomer.line(/another PostgreSQL still runs/)
      newcomer.kill(signal)
      const [code] = await once(newcomer.process, 'exit')
      t.equal(code, signal === 'SIGTERM' ? 143 : 130)
      t.strictSame(await old.query('SELECT 1 AS a'), [{ a: 1 }])
    })
  }

  t.test('SIGINT, which is a fast shutdown, closes all connections and ends it cleanly', async (t) => {
    const server = await start(t, volume)
    await server.line(/database system is ready/)
    const sleeping = t.rejects(server.query('SELECT pg_sleep(60)'), { code: '57P01' })
    await server.backend('SELECT pg_sleep')
    server.kill('SIGINT')
    t.strictSame(await once(server.process, 'exit'), [0, null])
    await sleeping
    await server.line(/database system is shut down/)
  })

  t.test(
    'after a start with a new password in the Secret, the superuser has it, and the data is unchanged',
    async (t) => {
      const killed = await start(t, volume)
      await killed.line(/database system is ready/)
      killed.kill('SIGKILL')
      await once(killed.process, 'exit')
      // Kubernetes leaves this mode when it gives a volume to the pod's group.
      await chmod(join(volume.folder, 'volume/pgdata'), 0o2770)
      const password = `new "pass'word`
      const server = await start(t, volume, { POSTGRES_PASSWORD: password })
      await server.line(/database system is ready/)
      t.equal((await server.query('SELECT FROM kept', encodeURIComponent(password))).length, 3)
      await t.rejects(server.query('SELECT'), { code: '28P01' })
      t.notMatch(server.lines.join('\n'), /pass'word/)
      t.ok(
        server.lines.some((line) => /"LOG","message":"database system was not properly shut down/.test(line)),
        'what the single-user server writes is in the log',
      )
      checkLines(t, server.lines)
    },
  )

  t.test('a postmaster.pid with the id of another running process does not prevent a start', async (t) => {
    const killed = await start(t, volume)
    await killed.line(/database system is ready/)
    killed.kill('SIGKILL')
    await once(killed.process, 'exit')
    const file = join(volume.folder, 'volume/pgdata/postmaster.pid')
    const other = spawn('sleep', ['60'], killed.user)
    t.teardown(() => other.kill())
    await writeFile(file, (await readFile(file, 'utf8')).replace(/^\d+/, String(other.pid)))
    const server = await start(t, volume)
    await server.line(/database system is ready/)
  })

  t.test('an interrupted first start leaves nothing that looks like a database', async (t) => {
    const volume = await makeVolume(t)
    const interrupted = await start(t, volume, { CUT_SHORT: '1' })
    await once(interrupted.process, 'exit')
    t.strictSame((await readdir(join(volume.folder, 'volume'))).sort(), ['lock', 'pgdata.new'])
    const server = await start(t, volume)
    await server.line(/database system is ready/)
    t.strictSame(await server.query('SELECT 1 AS a'), [{ a: 1 }])
  })
})

/** All lines are JSON, except for the two that PostgreSQL writes before its log collector runs. */
function checkLines(t: Test, lines: string[]): void {
  const text = lines.filter((line) => !line.startsWith('{')).join('\n')
  t.match(
    text,
    /^.*LOG: {2}redirecting log output to logging collector process\n.*LOG: {2}ending log output to stderr$/,
  )
  const entries = lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
  t.ok(entries.every((entry) => entry.error_severity && entry.message && entry.timestamp))
}

interface Volume {
  folder: string
  port: number
  home: Home
}

async function makeVolume(t: Test): Promise<Volume> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-'))
  await chmod(folder, 0o711)
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const home = await prepareHome(join(folder, '.sluice'))

  for (const name of ['volume', 'config', 'tmp', 'bin']) await mkdir(join(folder, name))
  for (const name of ['start.sh', 'pg_hba.conf']) await copyFile(new URL(name, component), join(folder, 'config', name))
  const settings = (await readFile(new URL('postgresql.conf', component), 'utf8'))
    .replace(/^listen_addresses = .*$/m, "listen_addresses = '127.0.0.1'")
    .replace(/^unix_socket_directories = .*$/m, "unix_socket_directories = ''")
  await writeFile(join(folder, 'config', 'postgresql.conf'), settings)

  const programs = {
    'docker-ensure-initdb.sh': `mkdir -p "$PGDATA" && [ -z "\${CUT_SHORT:-}" ] || kill -9 $PPID
      initdb --username=postgres --pwfile=<(echo "$POSTGRES_PASSWORD") $POSTGRES_INITDB_ARGS`,
    // What the image prints if the database exists.
    'docker-entrypoint.sh': `printf '\\n%s\\n\\n' 'PostgreSQL Database directory appears to contain a database; Skipping initialization'; exec "$@"`,
  }
  for (const [name, text] of Object.entries(programs)) {
    await writeFile(join(folder, 'bin', name), `#!/usr/bin/env bash\n${text}\n`, { mode: 0o755 })
  }
  if (home.user) {
    for (const name of ['volume', 'tmp']) await chown(join(folder, name), home.user.uid, home.user.gid)
  }
  return { folder, port: await freePort(), home }
}

async function start(t: Test, { folder, port, home }: Volume, extra: Record<string, string> = {}) {
  const env = {
    PATH: `${join(folder, 'bin')}:${dirname(home.binaries.postgres)}:${process.env.PATH}`,
    TMPDIR: join(folder, 'tmp'),
    PGDATA: join(folder, 'volume', 'pgdata'),
    PGPORT: String(port),
    POSTGRES_USER: 'postgres',
    POSTGRES_PASSWORD: 'secret',
    POSTGRES_INITDB_ARGS: container.env.find(({ name }: Manifest) => name === 'POSTGRES_INITDB_ARGS').value,
    ...extra,
  }
  // The standard error of a container is a pipe. Node would use a socket, which cannot be opened a second time.
  const script = join(folder, 'config', 'start.sh')
  const command = ['bash', '-c', 'exec bash "$0" 2> >(exec cat)', script]
  const [program, ...args] = extra.ISOLATED ? [...isolate(home), ...command] : command
  const child = spawn(program as string, args, { env, cwd: '/', ...(extra.ISOLATED ? {} : home.user) })
  const pid = () => (extra.ISOLATED ? firstChild(firstChild(child.pid as number)) : (child.pid as number))
  const kill = (signal: NodeJS.Signals) => process.kill(pid(), signal)
  t.teardown(() => end(child, kill))

  const lines: string[] = []
  const reader = createInterface(child.stdout)
  reader.on('line', (line) => lines.push(line))

  const query = async (text: string, password = 'secret') => {
    const client = new Client(`postgres://postgres:${password}@127.0.0.1:${port}/postgres`)
    // These tests stop the server, which closes the connection.
    client.on('error', () => {})
    await client.connect()
    return (await client.query(text).finally(() => client.end())).rows
  }
  return {
    process: child,
    user: home.user,
    pid,
    kill,
    lines,
    query,
    async line(pattern: RegExp) {
      while (!lines.some((line) => pattern.test(line))) await once(reader, 'line')
    },
    /** The process id of the backend whose query begins with `statement`. */
    async backend(statement: string): Promise<number> {
      while (true) {
        const [row] = await query(`SELECT pid FROM pg_stat_activity WHERE query LIKE '${statement}%'`)
        if (row !== undefined) return (row as { pid: number }).pid
      }
    },
  }
}

/** Runs a command in its own process namespace, like a pod. The first process only reaps the others. */
function isolate({ user }: Home): string[] {
  const pause = ['bash', '-c', 'set -m; "$@" & wait $!', 'pause']
  const as = ['setpriv', `--reuid=${user?.uid}`, `--regid=${user?.gid}`, '--clear-groups']
  return ['unshare', '--pid', '--fork', '--mount-proc', ...pause, ...as]
}

const firstChild = (pid: number) => Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')[0])

async function end(child: ChildProcess, kill: (signal: NodeJS.Signals) => void): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exit = once(child, 'exit')
  kill('SIGINT')
  await exit
}
