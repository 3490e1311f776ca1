import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import { find, missing, render, repository } from '../helpers/kustomize.ts'

// What k8s/README.md says is done as it says it, as far as that takes no cluster.
const skip = missing('kubectl')
const readme = readFileSync(new URL('k8s/README.md', repository), 'utf8')

t.test('the volume grows by the patch that is shown', { skip }, async (t) => {
  const [patches] = /(?<=^```yaml\n)patches:.*?(?=^```$)/ms.exec(readme) as RegExpExecArray
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
  'on the way to ha, what is applied before the data is the database, and nothing that would migrate',
  { skip },
  async (t) => {
    const [, components] = /kubectl apply -k k8s\/overlays\/ha -l 'app\.kubernetes\.io\/component in \((.*?)\)'/.exec(
      readme,
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

// The operator makes them under the Cluster's name. It takes an account that is there already, and ours has no token.
t.test('on the way to ha, what would be in the way of the operator is removed', { skip }, async (t) => {
  for (const kind of ['StatefulSet', 'Service', 'ServiceAccount']) {
    t.ok(find(render('k3s'), kind, 'sluice-postgres'), `${kind} is in k3s`)
    t.notOk(find(render('ha'), kind, 'sluice-postgres'), `${kind} is not in ha`)
    t.match(readme, new RegExp(`kubectl -n sluice delete .*${kind.toLowerCase()}/sluice-postgres`))
  }
})
