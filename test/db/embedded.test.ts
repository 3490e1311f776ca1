import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readFile, realpath, rm, stat, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { type Embedded, openEmbedded } from '../../db/embedded/index.ts'
import { provision } from '../../src/postgres/roles.ts'
import { connect } from '../helpers/connect.ts'
import { FAST, openOwnServer, ownFolder } from '../helpers/own-server.ts'
import { skipUnless } from '../helpers/skipping.ts'

const isRoot = process.getuid?.() === 0
// Most tests share one folder, which saves a second of initdb each. Each test leaves the server stopped.
const shared = await ownFolder(t)
const open = (folder = shared) => openEmbedded(folder, provision, { settings: FAST })

t.test('after a restart, the data, the port and the passwords are the same', async (t) => {
  const first = await open()
  await select(first.ownerUrl, 'CREATE TABLE kept AS SELECT 42 AS answer')
  await first.release()
  await t.rejects(select(first.ownerUrl, 'SELECT 1'), { code: 'ECONNREFUSED' })

  const second = await reopen(t)
  t.equal(second.ownerUrl, first.ownerUrl)
  t.same(await select(second.ownerUrl, 'TABLE kept'), [{ answer: 42 }])
})

// The driver reads them for every connection.
t.test('variables for other servers do not reach it', async (t) => {
  const env = { PGOPTIONS: '-c no_such_setting=1', PGREPLICATION: 'true' }
  Object.assign(process.env, env)
  t.teardown(() => {
    for (const name of Object.keys(env)) delete process.env[name]
  })
  const server = await reopen(t)
  t.same(await select(server.apiUrl, 'SELECT 1 AS one'), [{ one: 1 }])
})

t.test('with a separate server', async (t) => {
  const server = await openOwnServer(t)

  t.test('each URL logs in as its role, into a UTF-8 database sorted by code point', async (t) => {
    const query = 'SELECT current_user AS role, current_database() AS name'
    t.same(await select(server.superUrl, query), [{ role: 'postgres', name: 'sluice' }])
    t.same(await select(server.ownerUrl, query), [{ role: 'sluice_owner', name: 'sluice' }])
    t.same(await select(server.apiUrl, query), [{ role: 'sluice_api', name: 'sluice' }])
    t.same(await select(server.apiUrl, `SELECT getdatabaseencoding() AS encoding, 'Z' < 'a' AS by_code_point`), [
      { encoding: 'UTF8', by_code_point: true },
    ])
  })

  t.test('a wrong password is refused, and the server listens only on loopback', async (t) => {
    await t.rejects(select(Object.assign(new URL(server.superUrl), { password: 'guess' }).href, 'SELECT 1'), {
      code: '28P01',
    })
    t.match(await select(server.superUrl, 'SHOW listen_addresses'), [{ listen_addresses: '127.0.0.1' }])
    t.match(await select(server.superUrl, 'SHOW unix_socket_directories'), [{ unix_socket_directories: '' }])
    t.equal((await stat(join(server.folder, 'postgres', 'secret'))).mode & 0o777, 0o600)
  })

  t.test('commits are synchronous, and fsync is on by default', async (t) => {
    t.match(await select(server.superUrl, 'SHOW synchronous_commit'), [{ synchronous_commit: 'on' }])
    t.match(await select(server.superUrl, "SELECT boot_val FROM pg_settings WHERE name = 'fsync'"), [
      { boot_val: 'on' },
    ])
  })

  t.test('the server has its own session, which Ctrl-C does not reach', { skip: needsLinux() }, async (t) => {
    t.equal(await sessionOf(await serverPid(server.folder)), await serverPid(server.folder))
  })

  t.test('two users of a folder share one server, and it keeps running when one of them releases it', async (t) => {
    const another = await open(server.folder)
    t.equal(another.superUrl, server.superUrl)
    await another.release()
    t.same(await select(server.apiUrl, 'SELECT 1 AS alive'), [{ alive: 1 }])
  })

  // The lock was lost with the connection. The next `sluice keys list` took itself for the last user and stopped the server while
  // the API used it.
  t.test('a user whose lock connection broke is still counted', async (t) => {
    const root = connect(server.superUrl)
    t.teardown(() => root.destroy())
    const holders = sql<{ pid: number }>`SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted`
    const [before] = (await holders.execute(root)).rows
    await sql`SELECT pg_terminate_backend(${before?.pid})`.execute(root)
    await until(async () => {
      const [now] = (await holders.execute(root)).rows
      return now !== undefined && now.pid !== before?.pid
    })

    const another = await open(server.folder)
    await another.release()
    t.same(await select(server.apiUrl, 'SELECT 1 AS alive'), [{ alive: 1 }])
  })
})

t.test('the last release stops the server, and a second release by the same user has no effect', async (t) => {
  const [one, two] = await Promise.all([open(), open()])
  await Promise.all([one.release(), two.release(), one.release()])
  await t.rejects(select(one.superUrl, 'SELECT 1'), { code: 'ECONNREFUSED' })
})

t.test('concurrent first starts create one database and share its server', async (t) => {
  const folder = await ownFolder(t)
  const opened = await Promise.all([openInAnotherProcess(folder), openInAnotherProcess(folder), open(folder)])
  t.teardown(() => opened[2].release())
  t.equal(opened[0].url, opened[2].superUrl)
  t.equal(opened[1].url, opened[2].superUrl)
  await Promise.all([opened[0].end(), opened[1].end()])
  t.same(await select(opened[2].superUrl, 'SELECT 1 AS alive'), [{ alive: 1 }])
})

t.test('a user that opens the folder while the last one releases it gets a working server', async (t) => {
  let current = await open()
  for (let round = 0; round < 5; round++) {
    const [next] = await Promise.all([open(), current.release()])
    t.same(await select(next.apiUrl, 'SELECT 1 AS alive'), [{ alive: 1 }])
    current = next
  }
  await current.release()
})

t.test('a server whose user crashed is reused by the next user, and stopped at its release', async (t) => {
  const crashed = await openInAnotherProcess(shared)
  const pid = await serverPid(shared)
  await crashed.kill()
  t.ok(isAlive(pid))

  const next = await open()
  t.equal(await serverPid(shared), pid)
  await next.release()
  await t.rejects(select(next.superUrl, 'SELECT 1'), { code: 'ECONNREFUSED' })
})

t.test('after kill -9 of the server, the next start recovers committed data', async (t) => {
  const first = await open()
  await select(first.ownerUrl, 'CREATE TABLE committed AS SELECT 42 AS answer')
  process.kill(await serverPid(shared), 'SIGKILL')

  const second = await reopen(t)
  await first.release()
  t.same(await select(second.ownerUrl, 'TABLE committed'), [{ answer: 42 }])
})

// In a container, process ids are the same few numbers at each start. PostgreSQL then takes another process for its server and
// refuses to start.
t.test('a stale pid file with the process id of another program does not prevent the start', async (t) => {
  const first = await open()
  const file = join(shared, 'postgres', 'data', 'postmaster.pid')
  const content = await readFile(file, 'utf8')
  await first.release()

  const other = await spawnOther(t, shared)
  await writeFile(file, content.replace(/^\d+/, String(other)))
  const second = await reopen(t)
  t.same(await select(second.apiUrl, 'SELECT 1 AS alive'), [{ alive: 1 }])
  t.ok(isAlive(other))
})

t.test('if another program has taken the port, the server uses another one', async (t) => {
  const first = await open()
  await first.release()
  const port = Number(new URL(first.superUrl).port)
  const otherProgram = await listen(port)
  t.teardown(() => new Promise<void>((resolve) => otherProgram.close(() => resolve())))

  const second = await reopen(t)
  t.not(Number(new URL(second.superUrl).port), port)
  t.same(await select(second.apiUrl, 'SELECT 1 AS alive'), [{ alive: 1 }])
})

t.test('a database of another major version is refused in one sentence', async (t) => {
  await damage(t, 'PG_VERSION', '15\n')
  await t.rejects(open(), {
    name: 'EmbeddedError',
    message: /was created by PostgreSQL 15, but this is PostgreSQL 18/,
  })
})

t.test('if the server does not start, the error has the end of its log', async (t) => {
  await damage(t, 'postgresql.conf', 'no_such_setting = 1\n')
  await t.rejects(open(), {
    name: 'EmbeddedError',
    message: /does not start on [\s\S]*server\.log:[\s\S]*no_such_setting/,
  })
})

t.test('if the folder cannot be created, the error says so and names DATABASE_URL', async (t) => {
  const parent = await mkdtemp(join(tmpdir(), 'sluice-file-'))
  t.teardown(() => rm(parent, { recursive: true }))
  const file = join(parent, 'file')
  await writeFile(file, '')
  for (const folder of [file, join(file, 'below')]) {
    await t.rejects(open(folder), {
      name: 'EmbeddedError',
      message: /^The local database cannot write to the folder .*DATABASE_URL/,
    })
  }
})

t.test('root can use a folder that no other user can enter', { skip: skipUnless(isRoot, 'needs root') }, async (t) => {
  const closed = await mkdtemp(join(tmpdir(), 'sluice-closed-'))
  t.teardown(() => rm(closed, { recursive: true, force: true }))
  await chmod(closed, 0o700)
  const folder = join(closed, '.sluice')

  const first = await open(folder)
  const data = await realpath(join(folder, 'postgres'))
  t.teardown(() => rm(join(data, '..'), { recursive: true, force: true }))
  t.match(data, /^\/var\/lib\/sluice\/\w{12}\/postgres$/)
  t.not((await stat(data)).uid, 0)
  await select(first.ownerUrl, 'CREATE TABLE kept AS SELECT 42 AS answer')
  await first.release()

  const second = await reopen(t, folder)
  t.same(await select(second.ownerUrl, 'TABLE kept'), [{ answer: 42 }])
})

async function reopen(t: Test, folder = shared): Promise<Embedded> {
  const server = await open(folder)
  t.teardown(() => server.release())
  return server
}

/** Overwrites a file of the stopped server until `t` is over. */
async function damage(t: Test, name: string, content: string): Promise<void> {
  const file = join(shared, 'postgres', 'data', name)
  const original = await readFile(file)
  t.teardown(() => writeFile(file, original))
  await writeFile(file, content)
}

async function select(url: string, statement: string): Promise<unknown[]> {
  const db = connect(url)
  const { rows } = await sql
    .raw(statement)
    .execute(db)
    .finally(() => db.destroy())
  return rows
}

async function serverPid(folder: string): Promise<number> {
  return Number.parseInt(await readFile(join(folder, 'postgres', 'data', 'postmaster.pid'), 'utf8'), 10)
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

// The sixth field of /proc/<pid>/stat. The second one, the name, may contain spaces and parentheses.
async function sessionOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[3])
}

const needsLinux = () => skipUnless(process.platform === 'linux', 'needs Linux')

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition()));
}

/** Opens the server in another process. `end` releases the server and ends the process, `kill` only kills the process. */
async function openInAnotherProcess(folder: string) {
  const script = `
    import { openEmbedded } from ${JSON.stringify(new URL('../../db/embedded/index.ts', import.meta.url))}
    import { provision } from ${JSON.stringify(new URL('../../src/postgres/roles.ts', import.meta.url))}
    const server = await openEmbedded(${JSON.stringify(folder)}, provision, { settings: ${JSON.stringify(FAST)} })
    process.stdout.write(server.superUrl)
    process.stdin.resume().on('end', () => server.release())`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const [url] = await Promise.race([
    once(child.stdout, 'data'),
    ended.then(() => Promise.reject(new Error('the process ended'))),
  ])
  return {
    url: String(url),
    end: () => child.stdin.end() && ended,
    kill: () => child.kill('SIGKILL') && ended,
  }
}

/** Starts a process as the user of the server. PostgreSQL ignores processes of other users, because it cannot signal them. */
async function spawnOther(t: Test, folder: string): Promise<number> {
  const { uid, gid } = await stat(join(folder, 'postgres', 'data'))
  const child = spawn('sleep', ['600'], { ...(isRoot && { uid, gid }), stdio: 'ignore', cwd: '/' })
  t.teardown(() => child.kill())
  await once(child, 'spawn')
  return child.pid ?? 0
}

async function listen(port: number): Promise<Server> {
  const server = createServer().listen(port, '127.0.0.1')
  await once(server, 'listening')
  return server
}
