import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

/** A process that the bench started. It sends a message when it is ready, replies to messages, and exits on disconnect. */
export interface Child {
  pid: number
  /** The message that it sent when it was ready. */
  ready: unknown
  ask<Reply>(question: object): Promise<Reply>
  /** The signal or the exit code that it ended with. Undefined while it runs. */
  end(): string | undefined
  stop(): Promise<void>
}

interface StartOptions {
  env?: Record<string, string>
  execArgv?: string[]
}

/** A process that does not stop within this time is killed. */
const STOP_MS = 10_000

const running = new Set<ChildProcess>()

/** Starts a file of this folder. Its stdout is /dev/null, so that the log is written, but no disk or reader slows it down. */
export async function start(file: string, { env = {}, execArgv = [] }: StartOptions = {}): Promise<Child> {
  const path = fileURLToPath(new URL(file, import.meta.url))
  const child = fork(path, {
    env: { ...process.env, ...env },
    execArgv,
    // For typed arrays.
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  running.add(child)
  child.once('exit', () => running.delete(child))

  return { pid: child.pid as number, ready: await nextMessage(), ask, end, stop: () => stop(child) }

  function end(): string | undefined {
    return child.signalCode ?? (child.exitCode === null ? undefined : `exit code ${child.exitCode}`)
  }

  async function ask<Reply>(question: object): Promise<Reply> {
    child.send(question)
    return (await nextMessage()) as Reply
  }

  async function nextMessage(): Promise<unknown> {
    const over = new AbortController()
    const ended = once(child, 'exit', { signal: over.signal }).then(([code, signal]) => {
      throw new Error(`${file} ended unexpectedly (${signal ?? `exit code ${code}`})`)
    })
    const [message] = await Promise.race([once(child, 'message', { signal: over.signal }), ended]).finally(() => {
      ended.catch(() => {})
      over.abort()
    })
    return message
  }
}

/** A running command of `sluice`. */
export interface Program {
  /** What it has written to stdout so far. */
  output(): string
  /** Resolves when its stdout contains this text, or when it has ended. */
  hasWritten(text: string): Promise<void>
  /** What it has written to stderr so far. */
  errors(): string
  /** The exit code. Null while it runs. */
  code(): number | null
  /** Sends SIGTERM, unless it has ended, and waits for the end. */
  stop(): Promise<void>
}

export function run(args: string[], env: Record<string, string>): Program {
  const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
  const child = spawn(process.execPath, [main, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.add(child)
  child.once('exit', () => running.delete(child))
  let [output, errors] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text
  })
  child.stderr.setEncoding('utf8').on('data', (text) => {
    errors += text
  })
  let over = false
  const end = once(child, 'close').then(() => {
    over = true
  })
  return {
    output: () => output,
    errors: () => errors,
    hasWritten,
    code: () => child.exitCode,
    stop: () => stop(child).then(() => end),
  }

  async function hasWritten(text: string): Promise<void> {
    while (!output.includes(text) && !over) await Promise.race([once(child.stdout, 'data'), end])
  }
}

export async function stopAll(): Promise<void> {
  await Promise.all([...running].map(stop))
}

async function stop(child: ChildProcess): Promise<void> {
  if (!running.has(child)) return
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
  const exit = once(child, 'exit')
  if (child.connected) child.disconnect()
  else child.kill('SIGTERM')
  await exit
  clearTimeout(timer)
}
