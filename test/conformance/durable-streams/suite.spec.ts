// The file that vitest runs (run-suite.ts). It must match vitest's pattern of names, but not tap's.
import { runConformanceTests } from '@durable-streams/server-conformance-tests'
import { beforeEach } from 'vitest'
import { excludedNames, nameOf, titlesOf } from './names.ts'

const excluded = new Set(excludedNames())

// Called for tests of all blocks, because it is outside of them.
beforeEach(({ task, skip }) => {
  if (excluded.has(nameOf(titlesOf(task)))) skip()
})

runConformanceTests({ baseUrl: process.env.ADAPTER_URL as string })
