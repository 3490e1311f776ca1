import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { UNSHED } from './unshed.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

export interface Command {
  child: ChildProcess
  /** The output so far. */
  stdout(): string
  stderr(): string
  /** The lines of stdout so far, parsed. Throws if a line is not JSON. */
  logs(): Record<string, unknown>[]
  /** Resolves with the first log line that `matches`, also if it was logged before. Rejects if the process ends without it. */
  log(matches: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>>
  /** The exit code, or the name of the signal that ended it. */
  exit: Promise<number | string>
}

/**
 * Runs `node src/main.ts …` as a process.
 * @param flags for node
 * @param stdin its standard input; null: the input stays open, and the test writes to it
 */
export const runCommand = (
  t: Test,
  args: string[],
  env: Record<string, string>,
  flags: string[] = [],
  stdin: string | Buffer | null = '',
): Command => runNode(t, [...flags, MAIN, ...args], env, stdin)

/** Runs Node.js as a process. Its environment is only `env`, the PATH and the compile cache. It is killed when `t` ends. */
export function runNode(
  t: Test,
  args: string[],
  env: Record<string, string>,
  stdin: string | Buffer | null = '',
): Command {
  const child = spawn(process.execPath, args, {
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  // The process may end before it has read everything.
  child.stdin.on('error', () => {})
  if (stdin !== null) child.stdin.end(stdin)
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text
  })
  // 'close' comes after all output has arrived; 'exit' may come before.
  let hasEnded = false
  const exit = once(child, 'close').then(([code, signal]) => {
    hasEnded = true
    return (code ?? signal) as number | string
  })
  t.teardown(async () => {
    if (!hasEnded) child.kill('SIGKILL')
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
        if (hasEnded) throw new Error(`the process ended without that line: ${stdout}${stderr}`)
        await Promise.race([once(child.stdout, 'data'), exit])
      }
    },
  }
}

/** Runs `sluice serve` on a free port, and resolves when it listens. By default, nothing is shed. */
export async function runServer(
  t: Test,
  env: Record<string, string>,
  { args = [], flags = [] }: { args?: string[]; flags?: string[] } = {},
): Promise<Command & { url: string }> {
  const command = runCommand(t, ['serve', ...args], { PORT: '0', METRICS_PORT: '0', ...UNSHED, ...env }, flags)
  const { msg } = await command.log(({ msg }) => String(msg).startsWith('Server listening at '))
  return { ...command, url: String(msg).replace('Server listening at ', '') }
}

/** Sends two signals at once, like Ctrl-C under npm. While the process is stopped, no time passes between them. */
export function interruptTwice({ child }: Command): void {
  child.kill('SIGSTOP')
  child.kill('SIGINT')
  // Not SIGINT again: the system merges two pending signals of the same number.
  child.kill('SIGTERM')
  child.kill('SIGCONT')
}

/** Runs `serve` with settings with which it cannot start. */
export async function failToServe(t: Test, env: Record<string, string>) {
  const command = runCommand(t, ['serve'], {
    DATABASE_URL: 'postgres://127.0.0.1:1/none',
    PORT: '0',
    METRICS_PORT: '0',
    ...env,
  })
  const code = await command.exit
  return { code, logs: command.logs(), output: command.stdout() + command.stderr() }
}
