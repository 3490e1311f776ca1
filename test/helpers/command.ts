import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { UNSHED } from './unshed.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
/** Where Node.js keeps what it has compiled: most of a short run is to compile the program. */
const COMPILED = fileURLToPath(new URL('../../.sluice/compiled', import.meta.url))

export interface Command {
  child: ChildProcess
  /** What it wrote so far. */
  stdout(): string
  stderr(): string
  /** The lines of stdout so far, each parsed; throws when one is not JSON. */
  logs(): Record<string, unknown>[]
  /** The first log line, written or to come, that `matches`; rejects when the process ends without it. */
  log(matches: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>>
  /** The exit code, or the name of the signal that ended it. */
  exit: Promise<number | string>
}

/**
 * `node src/main.ts …` as a process of its own, with no environment of ours but `env`; killed when `t` is over.
 * @param flags for node
 * @param stdin what it reads there; null: that is left open, for the test to write to
 */
export function runCommand(
  t: Test,
  args: string[],
  env: Record<string, string>,
  flags: string[] = [],
  stdin: string | Buffer | null = '',
): Command {
  const child = spawn(process.execPath, [...flags, MAIN, ...args], {
    env: { PATH: process.env.PATH ?? '', NODE_COMPILE_CACHE: COMPILED, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  // It may end without having read it all.
  child.stdin.on('error', () => {})
  if (stdin !== null) child.stdin.end(stdin)
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text
  })
  // 'close' and not 'exit': by then all it wrote has arrived.
  let over = false
  const exit = once(child, 'close').then(([code, signal]) => {
    over = true
    return (code ?? signal) as number | string
  })
  t.teardown(async () => {
    if (!over) child.kill('SIGKILL')
    await exit
  })

  const logs = () =>
    stdout
      .slice(0, stdout.lastIndexOf('\n') + 1)
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
  return {
    child,
    stdout: () => stdout,
    stderr: () => stderr,
    logs,
    exit,
    async log(matches) {
      for (;;) {
        const found = logs().find(matches)
        if (found !== undefined) return found
        if (over) throw new Error(`it ended without that line: ${stdout}${stderr}`)
        await Promise.race([once(child.stdout, 'data'), exit])
      }
    },
  }
}

/** `sluice serve` on a free port, listening; without a setting, nothing is shed. */
export async function runServer(
  t: Test,
  env: Record<string, string>,
  { args = [], flags = [] }: { args?: string[]; flags?: string[] } = {},
): Promise<Command & { url: string }> {
  const command = runCommand(t, ['serve', ...args], { PORT: '0', METRICS_PORT: '0', ...UNSHED, ...env }, flags)
  const { msg } = await command.log(({ msg }) => String(msg).startsWith('Server listening at '))
  return { ...command, url: String(msg).replace('Server listening at ', '') }
}

/** Ctrl-C under npm arrives twice: two signals at once, which no pause of this process comes between. */
export function interruptTwice({ child }: Command): void {
  child.kill('SIGSTOP')
  child.kill('SIGINT')
  // Not SIGINT again: the system may make one of two equal signals that wait for a process.
  child.kill('SIGTERM')
  child.kill('SIGCONT')
}

/** `serve` with settings that it cannot start with. */
export async function serveInVain(t: Test, env: Record<string, string>) {
  const command = runCommand(t, ['serve'], {
    DATABASE_URL: 'postgres://127.0.0.1:1/none',
    PORT: '0',
    METRICS_PORT: '0',
    ...env,
  })
  const code = await command.exit
  return { code, logs: command.logs(), output: command.stdout() + command.stderr() }
}
