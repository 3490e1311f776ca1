import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Target } from './verify.ts'

const run = promisify(execFile)
const POD = 'sluice-postgres-0'
const CLAIM = `data-${POD}`

/** A node may take this long to restart. */
const READY_MS = 15 * 60_000
/** How long kubectl may take to read an object. Without an answer of the cluster, it tries for minutes. */
const GET_MS = 30_000

interface Options {
  namespace: string
  /** Runs in a shell, instead of deleting the pod. */
  restartCommand?: string
}

/** The PostgreSQL of k8s/overlays/k3s, through kubectl and its current context. */
export function openCluster({ namespace, restartCommand }: Options): Target {
  const kubectl = async (...args: string[]) => {
    const timeout = args[0] === 'get' ? GET_MS : READY_MS
    return (await run('kubectl', ['-n', namespace, ...args], { timeout })).stdout.trim()
  }

  async function volume(): Promise<string> {
    return kubectl('get', 'pvc', CLAIM, '-o', 'jsonpath={.metadata.name} {.metadata.uid} {.status.phase}')
  }

  async function restart(): Promise<void> {
    if (restartCommand !== undefined) {
      await runInShell(restartCommand)
      return untilReady()
    }
    const uid = () => kubectl('get', 'pod', POD, '-o', 'jsonpath={.metadata.uid}')
    const before = await uid()
    await kubectl('delete', 'pod', POD, '--wait')
    await untilReady()
    if ((await uid()) === before) throw new Error(`${POD} is still the pod that was deleted`)
  }

  // Retries, because the Kubernetes API restarts with the node, and the pod may not exist yet.
  async function untilReady(): Promise<void> {
    for (const deadline = Date.now() + READY_MS; ; await sleep(1000)) {
      try {
        await kubectl('wait', '--for=condition=Ready', `pod/${POD}`, '--timeout=30s')
        return
      } catch (error) {
        if (Date.now() > deadline) throw new Error(`${POD} did not become ready`, { cause: error })
      }
    }
  }

  return { volume, restart, close: async () => {} }
}

async function runInShell(command: string): Promise<void> {
  const child = spawn(command, { shell: true, stdio: 'inherit' })
  const [code] = await once(child, 'exit')
  if (code !== 0) throw new Error(`"${command}" exited with code ${code}`)
}
