import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openCluster } from '../../scripts/persistence/cluster.ts'

// kubectl is replaced by a script that logs its calls and prints what the test wants. Everything else needs a cluster.
t.test('restart deletes the pod, and returns when another one is ready', async (t) => {
  const { calls } = useKubectl(t, '[[ -e deleted ]] && echo uid-2 || echo uid-1')
  await openCluster({ namespace: 'sluice' }).restart()
  t.strictSame(calls(), [
    '-n sluice get pod sluice-postgres-0 -o jsonpath={.metadata.uid}',
    '-n sluice delete pod sluice-postgres-0 --wait',
    '-n sluice wait --for=condition=Ready pod/sluice-postgres-0 --timeout=30s',
    '-n sluice get pod sluice-postgres-0 -o jsonpath={.metadata.uid}',
  ])
})

t.test('a restart fails if the pod is still the same', async (t) => {
  useKubectl(t, 'echo uid-1')
  await t.rejects(openCluster({ namespace: 'sluice' }).restart(), /still the pod that was deleted/)
})

t.test('a restart command that fails is reported', async (t) => {
  const { calls } = useKubectl(t, '')
  await t.rejects(
    openCluster({ namespace: 'sluice', restartCommand: 'exit 3' }).restart(),
    /"exit 3" exited with code 3/,
  )
  await openCluster({ namespace: 'sluice', restartCommand: 'true' }).restart()
  t.equal(calls().length, 1, 'it waits for the pod and deletes none')
})

t.test('the volume is identified by the name and UID of its claim', async (t) => {
  useKubectl(t, 'echo data-sluice-postgres-0 a-uid Bound')
  t.equal(await openCluster({ namespace: 'sluice' }).volume(), 'data-sluice-postgres-0 a-uid Bound')
})

function useKubectl(t: Test, get: string) {
  const folder = t.testdir({ calls: '' })
  const log = join(folder, 'calls')
  const text = `#!/usr/bin/env bash
    cd ${folder}
    echo "$*" >>calls
    case "$*" in *delete*) touch deleted ;; *' get '*) ${get || ':'} ;; esac`
  writeFileSync(join(folder, 'kubectl'), text, { mode: 0o755 })
  const { PATH } = process.env
  process.env.PATH = `${folder}:${PATH}`
  t.teardown(() => {
    process.env.PATH = PATH
  })
  return { calls: () => readFileSync(log, 'utf8').split('\n').filter(Boolean) }
}
