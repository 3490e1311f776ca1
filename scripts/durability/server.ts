import { type ChildProcess, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const COPYING = new URL('copying.ts', import.meta.url).href

/** A process with `sluice serve`, which uses COPY from the first flush on: see copying.ts. */
export interface Server {
  port: number
  /** Resolves with the exit code or the name of the signal when the process has ended. */
  exit: Promise<number | string>
  signal(name: NodeJS.Signals): void
}

interface ServerOptions {
  port: number
  env: Record<string, string>
  /** The file to which its log is appended. */
  log: string
}

const PATIENCE_MS = 120_000

const running = new Set<ChildProcess>()

/** Resolves when the server is ready. */
export async function startServer({ port, env, log }: ServerOptions): Promise<Server> {
  const out = openSync(log, 'a')
  const child = spawn(process.execPath, ['--import', COPYING, MAIN, 'serve'], {
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      PORT: String(port),
      METRICS_PORT: '0',
      ...env,
    },
    stdio: ['ignore', out, out],
  })
  closeSync(out)
  running.add(child)
  let over = false
  const exit = once(child, 'exit').then(([code, signal]) => {
    over = true
    running.delete(child)
    return (code ?? signal) as number | string
  })
  for (const deadline = Date.now() + PATIENCE_MS; !(await isReady(port)); await sleep(20)) {
    if (over || Date.now() > deadline) {
      child.kill('SIGKILL')
      throw new Error(`The server ${over ? 'ended' : 'did not become ready'}: see ${log}`)
    }
  }
  return { port, exit, signal: (name) => void child.kill(name) }
}

/** Kills all servers that are still running. */
export async function stopServers(): Promise<void> {
  await Promise.all(
    [...running].map(async (child) => {
      const exit = once(child, 'exit')
      child.kill('SIGKILL')
      await exit
    }),
  )
}

/** Asks /readyz, like a load balancer. */
export async function isReady(port: number): Promise<boolean> {
  try {
    const { status } = await fetch(`http://127.0.0.1:${port}/readyz`, { signal: AbortSignal.timeout(2_000) })
    return status === 200
  } catch {
    return false
  }
}

/**
 * Finds a port that is free now. The server binds it later, also after a restart, so the port is below the range from which the
 * system assigns ports (32768 and up on Linux).
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 20_000)
    const probe = createServer()
    const isFree = once(probe.listen(port, '127.0.0.1'), 'listening').then(
      () => true,
      () => false,
    )
    if (!(await isFree)) continue
    await new Promise((resolve) => probe.close(resolve))
    return port
  }
}
