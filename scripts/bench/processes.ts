import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

/** A process that we started. It tells when it is ready, answers what it is asked, and ends when we disconnect. */
export interface Child {
  pid: number
  /** What it said when it was ready. */
  ready: unknown
  ask<Answer>(question: object): Promise<Answer>
  /** The signal or the exit code that it ended with; undefined while it runs. */
  end(): string | undefined
  stop(): Promise<void>
}

export interface StartOptions {
  env?: Record<string, string>
  execArgv?: string[]
}

/** How long one that was asked to end may take. */
const PATIENCE_MS = 10_000

const running = new Set<ChildProcess>()

/** Starts a file of this folder. Its stdout is /dev/null: a real file, but one whose speed is nobody's concern. */
export async function start(file: string, { env = {}, execArgv = [] }: StartOptions = {}): Promise<Child> {
  const path = fileURLToPath(new URL(file, import.meta.url))
  const child = fork(path, {
    env: { ...process.env, ...env },
    execArgv,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  running.add(child)
  child.once('exit', () => running.delete(child))

  return { pid: child.pid as number, ready: await nextMessage(), ask, end, stop: () => stop(child) }

  function end(): string | undefined {
    return child.signalCode ?? (child.exitCode === null ? undefined : `exit code ${child.exitCode}`)
  }

  async function ask<Answer>(question: object): Promise<Answer> {
    child.send(question)
    return (await nextMessage()) as Answer
  }

  async function nextMessage(): Promise<unknown> {
    const over = new AbortController()
    const ended = once(child, 'exit', { signal: over.signal }).then(([code, signal]) => {
      throw new Error(`${file} ended early (${signal ?? `exit code ${code}`})`)
    })
    const [message] = await Promise.race([once(child, 'message', { signal: over.signal }), ended]).finally(() => {
      ended.catch(() => {})
      over.abort()
    })
    return message
  }
}

/** A command of the program itself, as it is run by hand. */
export interface Program {
  /** What it wrote to stdout so far. */
  output(): string
  /** Resolves when it has written this, or has ended. */
  says(text: string): Promise<void>
  /** What it wrote to stderr so far. */
  errors(): string
  /** The exit code, as soon as there is one. */
  code(): number | null
  /** Asks it to end, by SIGTERM, unless it has. */
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
    says,
    code: () => child.exitCode,
    stop: () => stop(child).then(() => end),
  }

  async function says(text: string): Promise<void> {
    while (!output.includes(text) && !over) await Promise.race([once(child.stdout, 'data'), end])
  }
}

export async function stopAll(): Promise<void> {
  await Promise.all([...running].map(stop))
}

async function stop(child: ChildProcess): Promise<void> {
  if (!running.has(child)) return
  const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS)
  const exit = once(child, 'exit')
  if (child.connected) child.disconnect()
  else child.kill('SIGTERM')
  await exit
  clearTimeout(timer)
}
