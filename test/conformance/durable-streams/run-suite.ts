import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { nameOf } from './names.ts'

const VITEST = fileURLToPath(new URL('../../../node_modules/vitest/vitest.mjs', import.meta.url))
const HERE = fileURLToPath(new URL('.', import.meta.url))

interface Result {
  name: string
  status: string
  /** Why it failed. */
  messages: string[]
}

/** The part of vitest's JSON report that is read. */
interface Report {
  testResults: {
    /** Why the file could not be run. */
    message: string
    assertionResults: { ancestorTitles: string[]; title: string; status: string; failureMessages: string[] }[]
  }[]
}

/** Runs the suite against `url` in vitest, and resolves with the result of each of its tests. @throws if vitest cannot run it */
export async function runSuite(t: Test, url: string): Promise<Result[]> {
  const file = join(t.testdir(), 'report.json')
  // Without a cache, vitest writes nothing else. Some tests send hundreds of requests, and on a busy machine need far more than the
  // default of 5 s.
  const flags = [`--root=${HERE}`, '--cache=false', '--testTimeout=200000', '--reporter=json', `--outputFile=${file}`]
  // Without NODE_OPTIONS: vitest does not start with the hooks that tap adds to every process.
  const env = { PATH: process.env.PATH, ADAPTER_URL: url }
  const child = spawn(process.execPath, [VITEST, 'run', ...flags], { env, stdio: ['ignore', 'ignore', 'pipe'] })
  t.teardown(() => child.kill('SIGKILL'))
  const [errors] = await Promise.all([text(child.stderr), once(child, 'close')])
  const report = await readFile(file, 'utf8').catch(() => Promise.reject(new Error(errors)))
  const { testResults } = JSON.parse(report) as Report
  for (const { assertionResults, message } of testResults) if (assertionResults.length === 0) throw new Error(message)
  return testResults.flatMap(({ assertionResults }) =>
    assertionResults.map(({ ancestorTitles, title, status, failureMessages }) => ({
      name: nameOf([...ancestorTitles, title]),
      status,
      messages: failureMessages,
    })),
  )
}
