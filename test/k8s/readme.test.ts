import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import { find, render, repository } from '../helpers/kustomize.ts'
import { missing } from '../helpers/skipping.ts'

// Tries the instructions of the README files, as far as they need no cluster.
const skip = missing('kubectl')
const read = (path: string) => readFileSync(new URL(path, repository), 'utf8')
const migrationToHa = read('k8s/overlays/ha/README.md')

t.test('the patch in the README of postgres enlarges the volume', { skip }, async (t) => {
  const [patches] = /(?<=^```yaml\n)patches:.*?(?=^```$)/ms.exec(
    read('k8s/components/postgres/README.md'),
  ) as RegExpExecArray
  const base = fileURLToPath(new URL('k8s/overlays/k3s', repository))
  const folder = t.testdir({ overlay: {} })
  const kustomization = `resources: [${relative(`${folder}/overlay`, base)}]\n${patches}`
  t.testdir({ overlay: { 'kustomization.yaml': kustomization } })
  const text = execFileSync('kubectl', ['kustomize', `${folder}/overlay`], { encoding: 'utf8' })
  const objects = parseAllDocuments(text).map((document) => document.toJS())
  const [claim] = find(objects, 'StatefulSet', 'sluice-postgres').spec.volumeClaimTemplates
  t.strictSame(claim.spec, {
    ...claim.spec,
    resources: { requests: { storage: '10Gi' } },
    storageClassName: 'local-path',
  })
})

t.test(
  'in the move to ha, only the database is applied before the data, and nothing that migrates',
  { skip },
  async (t) => {
    const [, components] = /kubectl apply -k k8s\/overlays\/ha -l 'app\.kubernetes\.io\/component in \((.*?)\)'/.exec(
      migrationToHa,
    ) as unknown as [string, string]
    const chosen = components.split(', ')
    const kinds = render('ha')
      .filter(({ metadata }) => chosen.includes(metadata.labels?.['app.kubernetes.io/component']))
      .map(({ kind }) => kind)
    t.strictSame([...new Set(kinds)].sort(), [
      'Cluster',
      'NetworkPolicy',
      'ObjectStore',
      'PodMonitor',
      'ScheduledBackup',
    ])
  },
)

// The operator creates objects with the Cluster's name. It would use an existing service account, and ours has no token.
t.test('in the move to ha, objects that conflict with those of the operator are deleted', { skip }, async (t) => {
  for (const kind of ['StatefulSet', 'Service', 'ServiceAccount']) {
    t.ok(find(render('k3s'), kind, 'sluice-postgres'), `${kind} is in k3s`)
    t.notOk(find(render('ha'), kind, 'sluice-postgres'), `${kind} is not in ha`)
    t.match(migrationToHa, new RegExp(`kubectl -n sluice delete .*${kind.toLowerCase()}/sluice-postgres`))
  }
})
