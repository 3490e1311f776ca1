import { createHash } from 'node:crypto'
import { readFile, rename, rm, stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { sql } from 'kysely'
import { EmbeddedError } from './error.ts'
import type { Home } from './home.ts'
import { run } from './run.ts'
import { openSession } from './session.ts'

/** Crash recovery replays at most a few checkpoints of WAL. If it takes longer than a minute, something is wrong. */
const PATIENCE_MS = 60_000

/**
 * Waits for a server that is starting or stopping on these files.
 * @returns the port of the server when it accepts connections; undefined if no server runs
 */
export async function findServer(home: Home, password: string): Promise<number | undefined> {
  const giveUp = Date.now() + PATIENCE_MS
  while (true) {
    const noted = await readPidFile(home)
    if (!noted) return undefined
    // Only the server of these files accepts this password, even if something else listens on that port by now.
    if (noted.port && (await acceptsPassword(noted.port, password))) return noted.port
    if (!(await runsOn(home, noted))) {
      await removeStalePidFile(home, noted)
      return undefined
    }
    if (Date.now() > giveUp) {
      throw new EmbeddedError(
        `PostgreSQL (process ${noted.pid}) neither accepts connections on port ${noted.port} nor exits. ${await readLogEnd(home)}`,
      )
    }
    await delay(50)
  }
}

/** Starts the server. @returns what went wrong, which may only be that another process was faster */
export async function startServer(home: Home, settings: Record<string, string>): Promise<string | undefined> {
  const options = {
    listen_addresses: '127.0.0.1',
    port: String(await choosePort(home.data)),
    unix_socket_directories: '',
    timezone: 'UTC',
    ...settings,
  }
  // pg_ctl passes this to a shell.
  const quoted = Object.entries(options).map(([name, value]) => `-c ${name}='${value}'`)
  // pg_ctl starts the server in its own session, so a Ctrl-C in the terminal does not stop it: Sluice still needs it to drain.
  const args = ['start', '--wait', `--timeout=${PATIENCE_MS / 1000}`, '-D', home.data, '-l', home.log]
  const started = await run(home.binaries.pg_ctl, [...args, '-o', quoted.join(' ')], home.user)
  return started.ok ? undefined : (/^pg_ctl: .*$/m.exec(started.output)?.[0] ?? started.output)
}

/** Closes all connections. Returns when the server has written everything and ended. */
export async function stopServer(home: Home): Promise<void> {
  const noted = await readPidFile(home)
  const stopping = await run(home.binaries.pg_ctl, ['stop', '--no-wait', '--mode=fast', '-D', home.data], home.user)

  // pg_ctl --wait does not fit: if another process starts the server again at once, it would wait for that server to end.
  const giveUp = Date.now() + PATIENCE_MS
  while (stopping.ok && Date.now() < giveUp) {
    if ((await readPidFile(home))?.server !== noted?.server) return
    await delay(20)
  }
  throw new EmbeddedError(`PostgreSQL did not stop. ${stopping.output} ${await readLogEnd(home)}`)
}

/** A sentence with the path of the log and its last lines. */
export async function readLogEnd({ log }: Home): Promise<string> {
  const text = await readFile(log, 'utf8').catch(() => '')
  const end = text.trim().split('\n').slice(-4).join('\n')
  return end ? `The end of ${log}:\n${end}` : `Its log, ${log}, is empty`
}

// The same port every time, so that psql or a dashboard can find it again, from a range that the system does not use for
// outgoing connections. If it is in use, any other port.
async function choosePort(data: string): Promise<number> {
  const usual = 20_000 + (createHash('sha256').update(data).digest().readUInt32BE() % 10_000)
  return (await tryPort(usual)) ?? (await tryPort(0)) ?? usual
}

function tryPort(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.on('error', () => resolve(undefined))
    server.listen(port, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' ? address?.port : undefined))
    })
  })
}

async function acceptsPassword(port: number, password: string): Promise<boolean> {
  const db = openSession(`postgres://postgres:${password}@127.0.0.1:${port}/postgres`)
  try {
    await sql`SELECT 1`.execute(db)
    return true
  } catch {
    return false
  } finally {
    await db.destroy()
  }
}

interface PidFile {
  /** Process id, folder and start time. They identify a server. */
  server: string
  pid: number
  port: number
}

// https://www.postgresql.org/docs/18/storage-file-layout.html: the process id is on the first line, the port on the fourth.
async function readPidFile(home: Home, path = pidFileOf(home)): Promise<PidFile | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  const lines = text.split('\n')
  return { server: lines.slice(0, 3).join('\n'), pid: Number(lines[0]), port: Number(lines[3]) }
}

const pidFileOf = ({ data }: Home) => join(data, 'postmaster.pid')

// Whether the process is a server of these files. It is not enough that the process exists: after a crash of the machine or of
// a container, another process or a zombie may have its process id.
async function runsOn(home: Home, { pid }: PidFile): Promise<boolean> {
  // The file is empty for a moment after its creation, or after a power failure.
  if (!pid) return Date.now() - ((await stat(pidFileOf(home)).catch(() => undefined))?.mtimeMs ?? 0) < 5_000
  const command =
    process.platform === 'linux'
      ? (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).replaceAll('\0', ' ')
      : (await run('ps', ['-o', 'args=', '-p', String(pid)])).output
  return command.includes(`-D ${home.data}`)
}

// PostgreSQL removes a stale file itself, but not if a process with that id exists. If another server has replaced the file
// since it was read, the file is put back. This is soon enough, because a server checks for its own file only once a minute.
async function removeStalePidFile(home: Home, stale: PidFile): Promise<void> {
  const path = pidFileOf(home)
  const aside = `${path}.stale-${process.pid}`
  try {
    await rename(path, aside)
  } catch {
    return
  }
  if ((await readPidFile(home, aside))?.server === stale.server) await rm(aside)
  else await rename(aside, path)
}
